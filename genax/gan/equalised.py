"""Layers with an equalised learning rate (Karras et al. 2018, arXiv:1710.10196, section 4.1).

Weights begin as N(0, 1) and are multiplied by He's constant at each call. Adam moves each weight by
about its learning rate, so every layer then changes by the same share of its weights in a step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from genax.nn.convolution import upsample_conv
from genax.nn.convolve import convolve

# He's gain of a layer before a rectifier.
HE = math.sqrt(2.0)


def equalised_kernel(
    module: nn.Module, shape: Sequence[int], gain: float = 1.0, rate: float = 1.0
) -> Float[Array, "..."]:
    """Return the parameter "kernel" of a module as a layer multiplies by it, float32.

    That is gain / sqrt(fan in) times a weight of N(0, 1).

    module: within its compact method or its setup.
    shape: the inputs' axes and then that of the outputs.
    rate: factor of the layer's learning rate. The parameter begins as N(0, 1) divided by it and is
      multiplied by it here, so the product begins as without it.
    """
    kernel = module.param("kernel", nn.initializers.normal(1.0 / rate), tuple(shape))
    return kernel * (gain * rate / math.sqrt(math.prod(shape[:-1])))


class EqualisedDense(nn.Module):
    """Matrix product and bias with an equalised learning rate.

    gain: factor of the weights, such as `HE`.
    rate: factor of the learning rate, see `equalised_kernel`. The bias is multiplied by it too.
    """

    features: int
    gain: float = 1.0
    rate: float = 1.0
    use_bias: bool = True
    bias_init: Initializer = nn.initializers.zeros
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b ... i"], train: bool = False) -> Float[Array, "b ... f"]:
        """Return x W + b, computed in `dtype` with float32 parameters."""
        kernel = equalised_kernel(self, (x.shape[-1], self.features), self.gain, self.rate)
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        if not self.use_bias:
            return y
        bias = self.rate * self.param("bias", self.bias_init, (self.features,))
        return y + bias.astype(self.dtype)


class EqualisedConv(nn.Module):
    """2-D convolution and bias with an equalised learning rate.

    strides, padding: see `genax.nn.convolve.convolve`.
    gain: see `EqualisedDense`.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: str | Sequence[tuple[int, int]] = "SAME"
    gain: float = 1.0
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b H W f"]:
        """Return the convolution of x, computed in `dtype` with float32 parameters."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = equalised_kernel(self, shape, self.gain)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        y = convolve(x, kernel, self.strides, self.padding)
        return y + bias_of(self) if self.use_bias else y


class EqualisedUpsample(nn.Module):
    """Nearest upsampling to twice the resolution, then a 3x3 convolution.

    gain: see `EqualisedDense`.
    """

    features: int
    gain: float = 1.0
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b H W f"]:
        """Map [b, h, w, c] to [b, 2h, 2w, features]."""
        kernel = equalised_kernel(self, (3, 3, x.shape[-1], self.features), self.gain)
        y = upsample_conv(x.astype(self.dtype), kernel)
        return y + bias_of(self) if self.use_bias else y


class EqualisedDownsample(nn.Module):
    """3x3 convolution, then means of 2x2 pixels and the bias, in 4/9 of the arithmetic.

    The mean of four 3x3 windows is one window of 4x4 pixels.

    gain: see `EqualisedDense`.
    """

    features: int
    gain: float = 1.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b H W f"]:
        """Map [b, h, w, c] to [b, h/2, w/2, features]."""
        kernel = equalised_kernel(self, (3, 3, x.shape[-1], self.features), self.gain)
        for axis in (0, 1):
            before, after = (
                jnp.pad(kernel, [ends if a == axis else (0, 0) for a in range(4)])
                for ends in ((1, 0), (0, 1))
            )
            kernel = (before + after) / 2
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        y = convolve(x, kernel, (2, 2), ((1, 1), (1, 1)))
        return y + bias_of(self)


def bias_of(module: Any) -> Float[Array, " f"]:
    """Return the parameter "bias" of a module with the fields `features` and `dtype`."""
    bias = module.param("bias", nn.initializers.zeros, (module.features,))
    return jnp.asarray(bias, module.dtype)
