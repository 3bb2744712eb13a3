"""Convolutions over images in NHWC, and changes of resolution by convolution."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from genax.nn.convolve import convolve
from genax.nn.initializers import fan_avg_uniform
from genax.nn.resample import fir_blur


class Conv(nn.Module):
    """2-D convolution.

    padding: "SAME", "VALID" or ((top, bottom), (left, right)), in pixels.
    dilation: distance of the kernel's neighbours in the image.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: str | Sequence[tuple[int, int]] = "SAME"
    dilation: tuple[int, int] = (1, 1)
    kernel_init: Initializer = fan_avg_uniform()
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b H W f"]:
        """Return the convolution of x, computed in `dtype` with float32 parameters."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        y = convolve(x, kernel, self.strides, self.padding, self.dilation)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return y + bias.astype(self.dtype)


class Downsample(nn.Module):
    """Strided 3x3 convolution that halves the resolution.

    padding: rows (and columns) of zeros before and after. (0, 1) is TensorFlow's "SAME" on an even
      size, as in DDPM. (1, 1) is the padding of most PyTorch code.
    """

    features: int
    padding: tuple[int, int] = (0, 1)
    kernel_init: Initializer = fan_avg_uniform()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b H W f"]:
        """Map [b, h, w, c] to [b, h/2, w/2, features]."""
        return Conv(
            self.features,
            strides=(2, 2),
            padding=(self.padding, self.padding),
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="conv",
        )(x)


class FirDownsample(nn.Module):
    """Blur by the filter of `fir_downsample`, then a strided 3x3 convolution, as in StyleGAN2."""

    features: int
    kernel_init: Initializer = fan_avg_uniform()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b H W f"]:
        """Map [b, h, w, c] to [b, h/2, w/2, features]."""
        conv = Conv(
            self.features,
            strides=(2, 2),
            padding="VALID",
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="conv",
        )
        return conv(fir_blur(x, 2))


def nearest_upsample(x: Float[Array, "b h w c"], factor: int = 2) -> Float[Array, "b H W c"]:
    """Repeat every pixel `factor` times in both directions."""
    b, h, w, c = x.shape
    y = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, factor, w, factor, c))
    return y.reshape(b, h * factor, w * factor, c)


def upsample_conv(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c f"]
) -> Float[Array, "b H W f"]:
    """Convolve `nearest_upsample(x)` with a 3x3 kernel, in 4/9 of the arithmetic.

    The padding is "SAME". The window of an output pixel covers repeated pixels. Its nine weights
    therefore act on 2x2 pixels of x, in one of four ways by the parity of its row and column. So
    four 2x2 convolutions of x give the four phases of the output.
    """
    b, h, w, _ = x.shape
    # At even rows the window reaches one row up. At odd rows it reaches one row down.
    rows = [
        jnp.stack([kernel[0], kernel[1] + kernel[2]]),
        jnp.stack([kernel[0] + kernel[1], kernel[2]]),
    ]
    phases = []
    for row, taps in enumerate(rows):
        columns = [
            jnp.stack([taps[:, 0], taps[:, 1] + taps[:, 2]], axis=1),
            jnp.stack([taps[:, 0] + taps[:, 1], taps[:, 2]], axis=1),
        ]
        phases += [
            convolve(x, taps.astype(x.dtype), padding=((1 - row, row), (1 - column, column)))
            for column, taps in enumerate(columns)
        ]
    y = jnp.stack([jnp.stack(phases[:2], axis=3), jnp.stack(phases[2:], axis=3)], axis=2)
    return y.reshape(b, 2 * h, 2 * w, -1)


class Upsample(nn.Module):
    """Nearest upsampling to twice the resolution, then a 3x3 convolution."""

    features: int
    kernel_init: Initializer = fan_avg_uniform()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b H W f"]:
        """Map [b, h, w, c] to [b, 2h, 2w, features]."""
        kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return upsample_conv(x.astype(self.dtype), kernel) + bias.astype(self.dtype)
