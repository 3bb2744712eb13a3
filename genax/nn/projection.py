"""Linear maps between groups of axes, with the weight gradient laid out for speed."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from genax.core.mesh import platform
from genax.nn.derivatives import set_reverse_rule
from genax.nn.rematerialise import PRODUCT


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def project(
    x: Float[Array, "*b_and_in"], kernel: Float[Array, "*in_and_out"], num_in: int = 1
) -> Float[Array, "*b_and_out"]:
    """Contract the last num_in axes of x with the first num_in axes of kernel.

    The derivative equals JAX's. It is written by hand to choose the order of its operands.
    """
    first = x.ndim - num_in
    axes = (tuple(range(first, x.ndim)), tuple(range(num_in)))
    return lax.dot_general(x, kernel, (axes, ((), ())))


def _forward(x, kernel, num_in):
    return project(x, kernel, num_in), (x, kernel)


def _backward(num_in, residuals, gradient):
    x, kernel = residuals
    num_out = kernel.ndim - num_in
    rows = tuple(range(x.ndim - num_in))
    outs = tuple(range(len(rows), len(rows) + num_out))
    dx = lax.dot_general(gradient, kernel, ((outs, tuple(range(num_in, kernel.ndim))), ((), ())))
    narrow = math.prod(kernel.shape[num_in:]) < math.prod(kernel.shape[:num_in])
    if narrow and platform() == "cpu":
        # XLA transposes the left operand in memory, so the narrower operand goes there. The barrier
        # keeps XLA from swapping them back.
        swapped = lax.dot_general(gradient, x, ((rows, rows), ((), ())))
        order = (*range(num_out, kernel.ndim), *range(num_out))
        return dx, lax.optimization_barrier(swapped).transpose(order)
    return dx, lax.dot_general(x, gradient, ((rows, rows), ((), ())))


set_reverse_rule(project, _forward, _backward)


class Projection(nn.Module):
    """Linear map x kernel + bias, from the last `num_in` axes of x to the axes `features`.

    Parameters: "kernel" [*in, *features] and, with use_bias, "bias" [*features], both float32. The
      product is taken in `dtype`.
    kernel_init: initialises the kernel as a matrix [in, features].
    """

    features: tuple[int, ...]
    num_in: int = 1
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*b_and_in"]) -> Float[Array, "*b_and_features"]:
        """Return the projection of x in `dtype`."""
        ins = x.shape[-self.num_in :]

        def init(key, shape, dtype=jnp.float32):
            flat = self.kernel_init(key, (math.prod(ins), math.prod(self.features)), dtype)
            return flat.reshape(shape)

        kernel = self.param("kernel", init, (*ins, *self.features))
        y = project(x.astype(self.dtype), kernel.astype(self.dtype), self.num_in)
        # Rematerialisation policies cannot see a product inside a function with its own reverse
        # rule.
        y = checkpoint_name(y, PRODUCT)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, self.features).astype(self.dtype)
        return y
