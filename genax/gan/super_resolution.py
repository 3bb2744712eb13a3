"""The networks of SRGAN (Ledig et al. 2017, arXiv:1609.04802), figure 4."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.nn.convolution import Conv
from genax.nn.norms import BatchNorm

Images = Float[Array, "b h w c"]

# Of both networks.
SIZES: dict[str, dict[str, Any]] = {
    # arXiv:1609.04802, figure 4.
    "paper": {
        "width": 64,
        "num_blocks": 16,
        "widths": (64, 128, 256, 512),
        "hidden_size": 1024,
    },
    # This project's own.
    "cpu": {"width": 32, "num_blocks": 4, "widths": (32, 64, 128), "hidden_size": 256},
    "digits": {"width": 32, "num_blocks": 2, "widths": (32, 64), "hidden_size": 64},
}


def pixel_shuffle(x: Float[Array, "b h w f"], factor: int) -> Float[Array, "b H W c"]:
    """Turn channels into pixels: channel c factor^2 + i factor + j is pixel (i, j) of channel c.

    Shi et al. 2016 (arXiv:1609.05158), in PyTorch's order of channels.
    """
    b, h, w, f = x.shape
    x = x.reshape(b, h, w, f // factor**2, factor, factor)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(b, h * factor, w * factor, -1)


def _parametric_relu(name: str) -> nn.Module:
    """ReLU with one slope below zero for all channels, 1/4 at first (He et al. 2015)."""
    return nn.PReLU(negative_slope_init=0.25, name=name)


class SRResNet(nn.Module):
    """Generator of an image from a smaller one: residual blocks at the small resolution.

    Nothing bounds the output.

    factor: how many times larger each side becomes, a power of two.
    channels: of the images.
    width: channels of the layers.
    """

    factor: int = 4
    channels: int = 3
    width: int = 64
    num_blocks: int = 16
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Images, train: bool = False) -> Float[Array, "b H W c"]:
        """Return larger images, float32. Raises GenaxError for a factor that is no power of two."""
        if self.factor < 2 or self.factor & (self.factor - 1):
            raise GenaxError(
                f"SRResNet doubles the resolution again and again, which makes no image "
                f"{self.factor} times larger; choose a factor of 2, 4, 8 or another power of two."
            )
        conv = partial(Conv, dtype=self.dtype)
        # BatchNorm takes a bias away.
        inner = partial(conv, self.width, use_bias=False)
        x = conv(self.width, (9, 9), name="first")(image.astype(self.dtype))
        first = x = _parametric_relu("first_relu")(x)
        for number in range(self.num_blocks):
            y = inner(name=f"block_{number}_conv_0")(x)
            y = BatchNorm(name=f"block_{number}_norm_0")(y, train)
            y = _parametric_relu(f"block_{number}_relu")(y)
            y = inner(name=f"block_{number}_conv_1")(y)
            x = x + BatchNorm(name=f"block_{number}_norm_1")(y, train)
        x = BatchNorm(name="trunk_norm")(inner(name="trunk_conv")(x), train) + first
        for number in range(self.factor.bit_length() - 1):
            x = pixel_shuffle(conv(4 * self.width, name=f"up_{number}")(x), 2)
            x = _parametric_relu(f"up_{number}_relu")(x)
        return conv(self.channels, (9, 9), name="last")(x).astype(jnp.float32)


class SRDiscriminator(nn.Module):
    """Discriminator of large images; it does not see the small ones.

    widths: channels of each resolution. Between two of them the resolution is halved, and after the
      last one.
    hidden_size: of the last layer but one.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    hidden_size: int = 1024
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, image: Images, source: Float[Array, "b p q s"] | None = None, train: bool = False
    ) -> Float[Array, " b"]:
        """Return the logits of being real, float32."""
        conv = partial(Conv, padding=((1, 1), (1, 1)), dtype=self.dtype)
        x = image.astype(self.dtype)
        for level, features in enumerate(self.widths):
            for stride in (1, 2):
                name, normed = f"{level}_{stride}", level > 0 or stride > 1
                step = partial(conv, strides=(stride, stride), use_bias=not normed)
                x = step(features, name=f"conv_{name}")(x)
                if normed:
                    x = BatchNorm(name=f"norm_{name}")(x, train)
                x = nn.leaky_relu(x, 0.2)
        x = nn.Dense(self.hidden_size, dtype=self.dtype, name="hidden")(x.reshape(len(x), -1))
        return nn.Dense(1, name="score")(nn.leaky_relu(x, 0.2).astype(jnp.float32))[:, 0]
