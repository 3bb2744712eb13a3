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

    head_dim: channels per head. None means `num_heads` heads.
    num_groups: see `GroupNorm`.
    num_heads: number of heads if head_dim is None. DDPM has one.
    rescale: factor of the residual sum.
    """

    head_dim: int | None = None
    num_groups: int | None = 32
    epsilon: float = 1e-6
    num_heads: int = 1
    rescale: float = 1.0
    kernel_init: Initializer = fan_avg_uniform()
    output_init: Initializer = fan_avg_uniform(0.0)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Return x plus its attention output.

        Raises GenaxError if heads do not divide the channels.
        """
        b, h, w, c = x.shape
        if self.head_dim is not None and c % self.head_dim:
            raise GenaxError(
                f"SpatialAttention: {c} channels do not divide into heads of {self.head_dim}; "
                "choose head_dim among the divisors of the channels, or None for a single head."
            )
        if self.head_dim is None and c % self.num_heads:
            raise GenaxError(
                f"SpatialAttention: {c} channels do not divide into {self.num_heads} heads; choose "
                "num_heads among the divisors of the channels."
            )
        head_dim = self.head_dim or c // self.num_heads
        y = GroupNorm(self.num_groups, self.epsilon, name="norm")(x).reshape(b, h * w, c)
        query, key, value = (
            nn.Dense(c, dtype=self.dtype, kernel_init=self.kernel_init, name=name)(y)
            for name in ("query", "key", "value")
        )
        y = pixel_attention(query, key, value, head_dim).reshape(b, h, w, c)
        y = nn.Dense(c, dtype=self.dtype, kernel_init=self.output_init, name="out")(y)
        return x + y if self.rescale == 1 else (x + y) * self.rescale


def pixel_attention(
    query: Float[Array, "b n c"],
    key: Float[Array, "b n c"],
    value: Float[Array, "b n c"],
    head_dim: int,
) -> Float[Array, "b n c"]:
    """Return softmax(query key^T / sqrt(head_dim)) value with the channels split into heads.

    The softmax is float32. A single head is written without an axis of heads, since on a CPU that
    axis costs a third of the time in transposed copies.
    """
    b, n, c = query.shape
    if head_dim != c:
        heads = (a.reshape(b, n, -1, head_dim) for a in (query, key, value))
        return jax.nn.dot_product_attention(*heads).reshape(b, n, c)
    scores = jnp.einsum("bqc,bkc->bqk", query * c**-0.5, key, preferred_element_type=jnp.float32)
    return jnp.einsum("bqk,bkc->bqc", jax.nn.softmax(scores).astype(value.dtype), value)
