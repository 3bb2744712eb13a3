"""Root-mean-square normalisation."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


class RMSNorm(nn.Module):
    """Root-mean-square normalisation x / sqrt(mean(x^2) + epsilon) * scale over the last axis.

    Zhang & Sennrich 2019, eq. 4. The mean square is float32 for every dtype of x.
    """

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Return the normalised x in the dtype of x."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        wide = x.astype(jnp.float32)
        inverse = lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + self.epsilon)
        return (wide * inverse * scale).astype(x.dtype)
