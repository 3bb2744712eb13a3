"""Convolution whose kernel is scaled for each image by its style (Karras et al. 2020)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from genax.gan.equalised import EqualisedDense
from genax.nn.convolve import convolve
from genax.nn.resample import fir_blur

EPSILON = 1e-8


def modulated_convolution(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k k c f"],
    scales: Float[Array, "b c"],
    demodulate: bool = True,
    upsample: bool = False,
) -> Float[Array, "b H W f"]:
    """Convolve each image with the kernel times its scales, one for each input channel.

    Karras et al. 2020 (arXiv:1912.04958), eq. 1 and 3. The kernels differ by image, but channels
    can be scaled before one convolution and outputs after it, which gives the same numbers.

    demodulate: divide each output channel by the norm of its scaled kernel.
    upsample: double the resolution, by `upsampling_convolution`.
    """
    convolution = upsampling_convolution if upsample else convolve
    y = convolution(x * scales[:, None, None].astype(x.dtype), kernel.astype(x.dtype))
    if not demodulate:
        return y
    squares = jnp.matmul(jnp.square(scales), jnp.square(kernel).sum((0, 1)), precision="highest")
    return y * lax.rsqrt(squares + EPSILON)[:, None, None].astype(y.dtype)


def upsampling_convolution(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c f"]
) -> Float[Array, "b 2*h 2*w f"]:
    """Transposed convolution of stride 2, then a blur by (1, 3, 3, 1) / 4 along both axes.

    It is the upsampling layer of StyleGAN2's official code: y[2i + k] += x[i] kernel[k], of
    2h + 1 rows before the blur. Rows of even and odd number are those of convolutions of x with
    every other tap, so one 2x2 convolution gives the four kinds of pixels.
    """
    b, h, w, c = x.shape
    features = kernel.shape[-1]
    padded = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    taps = padded.reshape(2, 2, 2, 2, c, features)[::-1, :, ::-1]
    taps = taps.transpose(0, 2, 4, 1, 3, 5).reshape(2, 2, c, 4 * features)
    y = convolve(x, taps, padding=((1, 1), (1, 1)))
    y = y.reshape(b, h + 1, w + 1, 2, 2, features).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(b, 2 * h + 2, 2 * w + 2, features)[:, :-1, :-1]
    return 4 * fir_blur(y, 1)


class ModulatedConv(nn.Module):
    """Modulated convolution with a learned map from a style to the scales of the input channels.

    Without demodulation the scales are divided by the root of the kernel's fan-in.
    """

    features: int
    kernel_size: int = 3
    upsample: bool = False
    demodulate: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], style: Float[Array, "b d"]
    ) -> Float[Array, "b H W f"]:
        """Return the convolution of x, computed in `dtype` with float32 parameters."""
        channels = x.shape[-1]
        shape = (self.kernel_size, self.kernel_size, channels, self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape)
        scales = EqualisedDense(channels, bias_init=nn.initializers.ones, name="scales")(style)
        if not self.demodulate:
            scales = scales / jnp.sqrt(self.kernel_size**2 * channels)
        return modulated_convolution(
            x.astype(self.dtype), kernel, scales, self.demodulate, self.upsample
        )
