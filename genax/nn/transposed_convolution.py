"""Transposed convolution that doubles the resolution of an image."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.nn.initializers import Initializer, normal, zeros
from jaxtyping import Array, Float

from genax.core.mesh import split_batch
from genax.nn.convolve import DIMENSIONS, convolve
from genax.nn.derivatives import set_reverse_rule


def _strided(y: Array, kernel: Array) -> Array:
    """Apply the convolution of stride 2 that `transposed_convolution` transposes."""
    pads = (1, len(kernel) - 3)
    return convolve(y, jnp.swapaxes(kernel, 2, 3), (2, 2), (pads, pads))


@jax.custom_jvp
def transposed_convolution(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c f"]
) -> Float[Array, "b 2*h 2*w f"]:
    """Transpose of a 3x3 or 4x4 convolution of stride 2 and padding 1, as torch's ConvTranspose2d.

    y[2i + k - 1] += x[i] kernel[k], in rows and in columns alike. The kernel is PyTorch's with its
    axes moved from [c, f, k, k]. A kernel of 3x3 has PyTorch's output_padding=1. One of 5x5 is the
    transpose of a convolution with the padding "SAME", as in TensorFlow.

    The gradient is written by hand as that of the strided convolution, read backwards. JAX derives
    the same numbers, but its weight gradient is a convolution dilated on both sides, which XLA runs
    ten times slower on CPU (7x7x128 to 14x14x64, batch 64).
    """
    pads = (len(kernel) - 2, 2)
    return lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        (1, 1),
        (pads, pads),
        lhs_dilation=(2, 2),
        dimension_numbers=DIMENSIONS,
    )


def _forward(x, kernel):
    return transposed_convolution(x, kernel), (x, kernel)


def _backward(saved, gradient):
    x, kernel = saved
    _, kernel_gradient = jax.vjp(partial(_strided, gradient), kernel)
    return _strided(gradient, kernel), *kernel_gradient(x)


set_reverse_rule(transposed_convolution, _forward, _backward)


class TransposedConv(nn.Module):
    """Transposed convolution that doubles the resolution.

    kernel_size: 3, 4 or 5.
    """

    features: int
    kernel_init: Initializer = normal(0.02)
    dtype: jnp.dtype = jnp.float32
    kernel_size: int = 4
    use_bias: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b 2*h 2*w f"]:
        """Return the convolution of x, computed in `dtype` with float32 parameters."""
        sides = (self.kernel_size, self.kernel_size)
        kernel = self.param("kernel", self.kernel_init, (*sides, x.shape[-1], self.features))
        y = split_batch(transposed_convolution(x.astype(self.dtype), kernel.astype(self.dtype)))
        if not self.use_bias:
            return y
        bias = self.param("bias", zeros, (self.features,))
        return y + bias.astype(self.dtype)
