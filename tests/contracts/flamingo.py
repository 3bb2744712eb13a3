"""Flamingo's shape (Alayrac et al. 2022): cross-attention in a frozen language model."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from genax.core import Loss, Phase, Stage, Task
from tests.contracts.layers import MLP, Attention, Block, cross_entropy

IMAGE, PATCHES, WIDTH = (4, 4, 1), 4, 8
VOCABULARY, LENGTH = 11, 6
ELEMENT = {
    "image": jax.ShapeDtypeStruct(IMAGE, jnp.float32),
    "tokens": jax.ShapeDtypeStruct((LENGTH,), jnp.int32),
}


def batch(rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    return {
        "image": rng.normal(size=(size, *IMAGE)).astype(np.float32),
        "tokens": rng.integers(0, VOCABULARY, (size, LENGTH)).astype(np.int32),
    }


class Resampler(nn.Module):
    """A fixed number of learned queries that look at an image's features."""

    dtype: Any

    @nn.compact
    def __call__(self, features):
        queries = self.param("queries", nn.initializers.normal(1.0), (2, WIDTH))
        queries = jnp.broadcast_to(queries, (len(features), *queries.shape)).astype(self.dtype)
        return queries + Attention(self.dtype, name="attention")(queries, features)


class GatedCrossAttention(nn.Module):
    """Section 3.1.2: its gate is shut at first, so that the language model starts as it was."""

    dtype: Any

    @nn.compact
    def __call__(self, x, memory):
        gate = self.param("gate", nn.initializers.zeros, ())
        y = Attention(self.dtype, name="attention")(nn.LayerNorm(dtype=self.dtype)(x), memory)
        return x + jnp.tanh(gate).astype(self.dtype) * y


class Layer(nn.Module):
    """A trained cross-attention before a frozen block."""

    dtype: Any

    @nn.compact
    def __call__(self, x, memory):
        x = GatedCrossAttention(self.dtype, name="cross_attention")(x, memory)
        return Block(dtype=self.dtype, name="block")(x)


class LanguageModel(nn.Module):
    dtype: Any

    @nn.compact
    def __call__(self, tokens, memory):
        x = nn.Embed(VOCABULARY, WIDTH, dtype=self.dtype, name="embedding")(tokens)
        for number in range(2):
            x = Layer(self.dtype, name=f"layer_{number}")(x, memory)
        return nn.Dense(VOCABULARY, dtype=self.dtype, name="head")(x)


class Networks(nn.Module):
    vision_tower: nn.Module
    resampler: nn.Module
    language_model: nn.Module


def caption_loss(nets, batch):
    """Cross-entropy in nats of each next token, given the image."""
    memory = nets.resampler(nets.vision_tower(batch["image"]))
    logits = nets.language_model(batch["tokens"][:, :-1], memory)
    return Loss(cross_entropy(logits, batch["tokens"][:, 1:]))


def make(dtype: Any = jnp.float32) -> Task:
    networks = Networks(
        vision_tower=MLP((PATCHES, WIDTH), dtype=dtype),
        resampler=Resampler(dtype),
        language_model=LanguageModel(dtype),
    )
    trains = ("resampler", "language_model/*/cross_attention")
    return Task(networks, [Stage([Phase("caption", caption_loss, trains, optax.adamw(1e-3))])])
