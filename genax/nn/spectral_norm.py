"""Layers whose kernels are divided by their largest singular value.

Miyato et al. 2018 (arXiv:1802.05957), algorithm 1, with the numbers of PyTorch's `spectral_norm`: a
kernel is a matrix of one row for each output. Its first singular vectors are estimated by the power
method, one step for each pass in training mode. They are in the collection "spectral_norm", and are
constants of the loss. Other passes take them as they are.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.nn.initializers import Initializer, normal, orthogonal, zeros
from jaxtyping import Array, Float, Int

from genax.nn.convolution import upsample_conv
from genax.nn.convolve import convolve

COLLECTION = "spectral_norm"


def unit(vector: Float[Array, " n"], epsilon: float) -> Float[Array, " n"]:
    """Return the vector divided by its length, or by epsilon if that is larger."""
    return vector / jnp.maximum(jnp.linalg.norm(vector), epsilon)


def power_step(
    matrix: Float[Array, "inputs outputs"], u: Float[Array, " outputs"], epsilon: float
) -> tuple[Float[Array, " outputs"], Float[Array, " inputs"]]:
    """Return the singular vectors of outputs and of inputs after one step of the power method."""
    v = unit(jnp.matmul(matrix, u, precision="highest"), epsilon)
    return unit(jnp.matmul(v, matrix, precision="highest"), epsilon), v


def normalised(
    module: nn.Module, kernel: Array, train: bool, epsilon: float, outputs: int = -1
) -> Array:
    """Return a kernel divided by the estimate of its largest singular value.

    A pass in training mode that may not change collections, such as one of a penalty, takes a step
    of the power method too, which is not kept.

    module: whose compact method this is called in. It may have one such kernel.
    outputs: the axis of outputs.
    """
    matrix = jnp.moveaxis(kernel, outputs, -1).reshape(-1, kernel.shape[outputs])
    still = lax.stop_gradient(matrix)

    def first():
        return unit(normal(1.0)(module.make_rng("params"), still.shape[1:]), epsilon)

    u = module.variable(COLLECTION, "u", first)
    v = module.variable(COLLECTION, "v", lambda: power_step(still, u.value, epsilon)[1])
    if train:
        left, right = power_step(still, u.value, epsilon)
        if module.is_mutable_collection(COLLECTION) and not module.is_initializing():
            u.value, v.value = left, right
    else:
        # An average of vectors is shorter than they are.
        left, right = unit(u.value, epsilon), unit(v.value, epsilon)
    largest = jnp.matmul(jnp.matmul(right, matrix, precision="highest"), left, precision="highest")
    return kernel / largest


class SpectralConv(nn.Module):
    """2-D convolution of padding "SAME" with a normalised kernel.

    upsample: repeat pixels to twice the resolution before it; the kernel is then 3x3.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    use_bias: bool = True
    upsample: bool = False
    epsilon: float = 1e-12
    kernel_init: Initializer = orthogonal()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b H W f"]:
        """Return the convolution of x, computed in `dtype` with float32 parameters."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = normalised(
            self, self.param("kernel", self.kernel_init, shape), train, self.epsilon
        )
        x = x.astype(self.dtype)
        kernel = kernel if self.upsample else kernel.astype(self.dtype)
        y = (upsample_conv if self.upsample else convolve)(x, kernel)
        if not self.use_bias:
            return y
        return y + self.param("bias", zeros, (self.features,)).astype(self.dtype)


class SpectralDense(nn.Module):
    """Dense layer with a normalised kernel."""

    features: int
    use_bias: bool = True
    epsilon: float = 1e-12
    kernel_init: Initializer = orthogonal()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n"], train: bool = False) -> Float[Array, "b f"]:
        """Return the product of x, computed in `dtype` with float32 parameters."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        kernel = normalised(self, kernel, train, self.epsilon)
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        if not self.use_bias:
            return y
        return y + self.param("bias", zeros, (self.features,)).astype(self.dtype)


class SpectralEmbed(nn.Module):
    """Table of embeddings, normalised as a whole."""

    num_embeddings: int
    features: int
    epsilon: float = 1e-12
    embedding_init: Initializer = orthogonal()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, label: Int[Array, " b"], train: bool = False) -> Float[Array, "b f"]:
        """Return the rows of labels; NaN for a label without a row."""
        table = self.param("embedding", self.embedding_init, (self.num_embeddings, self.features))
        table = normalised(self, table, train, self.epsilon, outputs=0).astype(self.dtype)
        # A negative number would count from the end.
        row = jnp.where(label < 0, self.num_embeddings, label)
        return table.at[row].get(mode="fill", fill_value=jnp.nan)
