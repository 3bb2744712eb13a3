"""Convolutions over images in NHWC, and changes of resolution by convolution."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from genax.nn.convolve import convolve
from genax.nn.initializers import fan_avg_uniform


class Conv(nn.Module):
    """A 2-D convolution.

    padding: "SAME", "VALID", or ((top, bottom), (left, right)).
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: str | Sequence[tuple[int, int]] = "SAME"
    kernel_init: Initializer = fan_avg_uniform()
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b H W f"]:
        """Computes in `dtype` over float32 parameters."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        y = convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.strides, self.padding)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return y + bias.astype(self.dtype)


class Downsample(nn.Module):
    """Halve the resolution by a strided 3x3 convolution.

    padding: rows (and columns) of zeros before and after. (0, 1) is TensorFlow's "SAME" on an even
    size, as in DDPM; (1, 1) is the one of most PyTorch code.
    """

    features: int
    padding: tuple[int, int] = (0, 1)
    kernel_init: Initializer = fan_avg_uniform()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b H W f"]:
        """[b, h, w, c] to [b, h/2, w/2, features]."""
        return Conv(
            self.features,
            strides=(2, 2),
            padding=(self.padding, self.padding),
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="conv",
        )(x)


def nearest_upsample(x: Float[Array, "b h w c"], factor: int = 2) -> Float[Array, "b H W c"]:
    """Repeat every pixel `factor` times in both directions."""
    b, h, w, c = x.shape
    y = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, factor, w, factor, c))
    return y.reshape(b, h * factor, w * factor, c)


class Upsample(nn.Module):
    """Double the resolution by repeating pixels, then convolve 3x3."""

    features: int
    kernel_init: Initializer = fan_avg_uniform()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b H W f"]:
        """[b, h, w, c] to [b, 2h, 2w, features]."""
        conv = Conv(self.features, kernel_init=self.kernel_init, dtype=self.dtype, name="conv")
        return conv(nearest_upsample(x))
