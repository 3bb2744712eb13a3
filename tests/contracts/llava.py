"""LLaVA's shape (Liu et al. 2023): first the projector learns, then the language model with it."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from genax.core import Loss, Phase, Stage, Task
from tests.contracts.layers import MLP, Block, cross_entropy

IMAGE, PATCHES, WIDTH = (4, 4, 1), 2, 8
VOCABULARY, LENGTH = 11, 6
STAGE_STEPS = 3
ELEMENT = {
    "image": jax.ShapeDtypeStruct(IMAGE, jnp.float32),
    "tokens": jax.ShapeDtypeStruct((LENGTH,), jnp.int32),
    "weights": jax.ShapeDtypeStruct((LENGTH,), jnp.float32),
}


def batch(rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    """Instructions of random length, whose answers alone count."""
    start = rng.integers(1, LENGTH, size=(size, 1))
    return {
        "image": rng.normal(size=(size, *IMAGE)).astype(np.float32),
        "tokens": rng.integers(0, VOCABULARY, (size, LENGTH)).astype(np.int32),
        "weights": (np.arange(LENGTH) >= start).astype(np.float32),
    }


class LanguageModel(nn.Module):
    """Logits of the tokens, that may look at a prefix of embeddings."""

    dtype: Any

    @nn.compact
    def __call__(self, prefix, tokens):
        embedding = nn.Embed(VOCABULARY, WIDTH, dtype=self.dtype, name="embedding")
        x = jnp.concatenate([prefix.astype(self.dtype), embedding(tokens[:, :-1])], axis=1)
        x = Block(dtype=self.dtype, name="block")(x)
        return nn.Dense(VOCABULARY, dtype=self.dtype, name="head")(x[:, PATCHES - 1 :])


class Networks(nn.Module):
    vision_tower: nn.Module
    projector: nn.Module
    language_model: nn.Module


def answer_loss(nets, batch):
    """Cross-entropy in nats of the tokens that are answers."""
    features = lax.stop_gradient(nets.vision_tower(batch["image"]))
    logits = nets.language_model(nets.projector(features), batch["tokens"])
    right = logits.argmax(-1) == batch["tokens"]
    return Loss(
        cross_entropy(logits, batch["tokens"]),
        batch["weights"],
        aux={"accuracy": Loss(right, batch["weights"])},
    )


def make(dtype: Any = jnp.float32) -> Task:
    networks = Networks(
        vision_tower=MLP((PATCHES, WIDTH), dtype=dtype),
        projector=MLP((PATCHES, WIDTH), (), dtype),
        language_model=LanguageModel(dtype),
    )
    align = Phase("align", answer_loss, ("projector",), optax.adam(1e-3))
    instruct = Phase("instruct", answer_loss, ("projector", "language_model"), optax.adam(1e-3))
    return Task(networks, [Stage([align], STAGE_STEPS), Stage([instruct])])
