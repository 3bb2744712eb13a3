"""The U-Net generator of Pix2Pix (Isola et al. 2017, arXiv:1611.07004), as in its PyTorch code."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.gan.dcgan import scaled_normal
from genax.nn.convolution import Conv
from genax.nn.norms import BatchNorm
from genax.nn.transposed_convolution import TransposedConv


class UNetGenerator(nn.Module):
    """Generator that halves the resolution again and again, and doubles it back beside the skips.

    The innermost layer has no BatchNorm on the way down, since a single pixel would become zero.
    Dropout is the noise of the model. It follows the layers on the way up from the greatest width
    to itself, but for the innermost one, as in the PyTorch code: three layers of U-Net-256. The
    paper and the Lua code have dropout after the innermost layer as well, and not after the third.

    widths: channels after each halving. (64, 128, 256, 512, 512, 512, 512, 512) is U-Net-256.
    channels: of the images that are made.
    dropout: share of the channels' values that are dropped if `train` is set.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512, 512, 512)
    channels: int = 3
    dropout: float = 0.5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, image: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b h w d"]:
        """Return images in [-1, 1], float32.

        train: whether to normalise by the batch and to drop. Samples do both as well.
        Raises GenaxError for sides that the layers cannot halve.
        """
        depth, last = len(self.widths), len(self.widths) - 1
        height, width = image.shape[1:3]
        if height % 2**depth or width % 2**depth:
            raise GenaxError(
                f"images of {height}x{width} cannot be halved {depth} times, once for each of "
                f"widths={self.widths}; choose sides that are multiples of {2**depth}, or fewer "
                "widths."
            )
        conv = partial(
            Conv,
            kernel_size=(4, 4),
            strides=(2, 2),
            padding=((1, 1), (1, 1)),
            kernel_init=scaled_normal(0.0),
            use_bias=False,
            dtype=self.dtype,
        )
        up = partial(TransposedConv, kernel_init=scaled_normal(0.0), dtype=self.dtype)
        norm = partial(BatchNorm, scale_init=scaled_normal(1.0))

        x, skips = image.astype(self.dtype), []
        for level, features in enumerate(self.widths):
            x = nn.leaky_relu(x, 0.2) if level else x
            x = conv(features, name=f"down_{level}")(x)
            if 0 < level < last:
                x = norm(name=f"down_norm_{level}")(x, train)
            skips.append(x)
        x = skips.pop()
        for level in range(last, 0, -1):
            features = self.widths[level - 1]
            x = up(features, name=f"up_{level}")(nn.relu(x))
            x = norm(name=f"up_norm_{level}")(x, train)
            if level < last and features == max(self.widths):
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = jnp.concatenate([skips.pop(), x], -1)
        x = up(self.channels, use_bias=True, name="up_0")(nn.relu(x))
        return jnp.tanh(x.astype(jnp.float32))
