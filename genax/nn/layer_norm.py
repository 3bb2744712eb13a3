"""Layer normalisation."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from genax.nn.derivatives import set_reverse_rule


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def layer_norm(
    x: Float[Array, "*b d"],
    scale: Float[Array, " d"],
    bias: Float[Array, " d"] | None = None,
    epsilon: float = 1e-5,
) -> Float[Array, "*b d"]:
    """Normalise over the last axis: (x - mean) / sqrt(var + epsilon) * scale + bias.

    Ba et al. 2016, eq. 4. Statistics are float32 for every dtype of x. The result has the dtype of
    x.
    """
    return _forward(x, scale, bias, epsilon)[0]


def _forward(x, scale, bias, epsilon):
    x32 = x.astype(jnp.float32)
    mean = x32.mean(-1, keepdims=True)
    inverse = lax.rsqrt(jnp.square(x32 - mean).mean(-1, keepdims=True) + epsilon)
    y = (x32 - mean) * inverse * scale
    y = y if bias is None else y + bias
    return y.astype(x.dtype), (x, scale, bias, mean, inverse)


def _backward(epsilon, residuals, gradient):
    # The hand-written rule keeps only x and two numbers per row, and takes two passes for dx.
    x, scale, bias, mean, inverse = residuals
    gradient = gradient.astype(jnp.float32)
    normal = (x.astype(jnp.float32) - mean) * inverse
    rows = tuple(range(x.ndim - 1))
    scaled = gradient * scale
    along = (scaled * normal).mean(-1, keepdims=True)
    dx = inverse * (scaled - scaled.mean(-1, keepdims=True) - normal * along)
    dscale = (gradient * normal).sum(rows).astype(scale.dtype)
    dbias = None if bias is None else gradient.sum(rows).astype(bias.dtype)
    return dx.astype(x.dtype), dscale, dbias


set_reverse_rule(layer_norm, _forward, _backward)


class LayerNorm(nn.Module):
    """Layer normalisation, with a learned bias and a learned scale unless they are left out."""

    epsilon: float = 1e-5
    use_bias: bool = True
    use_scale: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Return the normalised x in the dtype of x."""
        shape = (x.shape[-1],)
        ones = nn.initializers.ones
        scale = self.param("scale", ones, shape) if self.use_scale else jnp.ones(shape)
        bias = self.param("bias", nn.initializers.zeros, shape) if self.use_bias else None
        return layer_norm(x, scale, bias, self.epsilon)
