"""Self-attention among the pixels of a feature map."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.nn.group_norm import GroupNorm
from genax.nn.initializers import fan_avg_uniform


class SpatialAttention(nn.Module):
    """Group norm, attention of every pixel to every pixel, and the residual sum (DDPM's block).

    head_dim: channels of a head; None is one head of all channels, as in DDPM.
    """

    head_dim: int | None = None
    num_groups: int = 32
    epsilon: float = 1e-6
    kernel_init: Initializer = fan_avg_uniform()
    output_init: Initializer = fan_avg_uniform(0.0)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Raises GenaxError where the channels do not divide into heads."""
        b, h, w, c = x.shape
        head_dim = self.head_dim or c
        if c % head_dim:
            raise GenaxError(
                f"SpatialAttention: {c} channels do not divide into heads of {head_dim}; choose "
                "head_dim among the divisors of the channels, or None for a single head."
            )
        y = GroupNorm(self.num_groups, self.epsilon, name="norm")(x).reshape(b, h * w, c)
        query, key, value = (
            nn.Dense(c, dtype=self.dtype, kernel_init=self.kernel_init, name=name)(y).reshape(
                b, h * w, -1, head_dim
            )
            for name in ("query", "key", "value")
        )
        y = jax.nn.dot_product_attention(query, key, value).reshape(b, h, w, c)
        return x + nn.Dense(c, dtype=self.dtype, kernel_init=self.output_init, name="out")(y)
