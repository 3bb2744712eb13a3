"""Small networks that the toy tasks are made of.

Activations are smooth and no parameter is without effect: Adam makes a full step of a gradient
that is nothing but rounding, and a kink turns rounding into another branch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class MLP(nn.Module):
    """Fully connected layers with tanh between them, from arrays of any shape to `shape`."""

    shape: Sequence[int]
    hidden: Sequence[int] = (16,)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1).astype(self.dtype)
        for features in self.hidden:
            x = jnp.tanh(nn.Dense(features, dtype=self.dtype)(x))
        x = nn.Dense(math.prod(self.shape), dtype=self.dtype)(x)
        return x.reshape(len(x), *self.shape).astype(jnp.float32)


class Attention(nn.Module):
    """Attention from x to memory, or causally to x itself where there is none."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, memory=None):
        mask = nn.make_causal_mask(x[..., 0]) if memory is None else None
        # A bias of the keys adds the same to all scores of a query: softmax does not see it.
        attend = nn.MultiHeadDotProductAttention(2, use_bias=False, dtype=self.dtype)
        return attend(x, x if memory is None else memory, mask=mask)


class Block(nn.Module):
    """A pre-norm transformer block."""

    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        drop = nn.Dropout(self.dropout, deterministic=not self.dropout)
        norm = nn.LayerNorm(dtype=self.dtype, name="attention_norm")
        x = x + drop(Attention(self.dtype, name="attention")(norm(x)))
        y = nn.LayerNorm(dtype=self.dtype, name="mlp_norm")(x)
        y = jnp.tanh(nn.Dense(2 * x.shape[-1], dtype=self.dtype, name="up")(y))
        return x + drop(nn.Dense(x.shape[-1], dtype=self.dtype, name="down")(y))


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """In nats, one value per token."""
    logits = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
