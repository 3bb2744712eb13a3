"""A language model with dropout, and documents of unequal length in one batch."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from genax.core import Loss, Phase, Stage, Task
from tests.contracts.layers import Block, cross_entropy

VOCABULARY, LENGTH, WIDTH = 13, 8, 8
ELEMENT = {
    "tokens": jax.ShapeDtypeStruct((LENGTH,), jnp.int32),
    "length": jax.ShapeDtypeStruct((), jnp.int32),
}


def batch(rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    return {
        "tokens": rng.integers(0, VOCABULARY, (size, LENGTH)).astype(np.int32),
        "length": rng.integers(2, LENGTH + 1, size).astype(np.int32),
    }


class Decoder(nn.Module):
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(VOCABULARY, WIDTH, dtype=self.dtype, name="embedding")(tokens)
        for number in range(2):
            x = Block(self.dropout, self.dtype, name=f"block_{number}")(x)
        return nn.Dense(VOCABULARY, dtype=self.dtype, name="head")(x)


class Networks(nn.Module):
    decoder: nn.Module


def next_token_loss(nets, batch):
    """Cross-entropy in nats; what is beyond a document's end does not count."""
    logits = nets.decoder(batch["tokens"][:, :-1])
    inside = jnp.arange(1, LENGTH) < batch["length"][:, None]
    return Loss(cross_entropy(logits, batch["tokens"][:, 1:]), inside)


def make(dtype: Any = jnp.float32, dropout: float = 0.3) -> Task:
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(optax.linear_schedule(1e-4, 1e-3, 4))
    )
    phase = Phase("decoder", next_token_loss, ("decoder",), optimizer)
    return Task(Networks(Decoder(dropout, dtype)), [Stage([phase])], ema={"decoder": 0.99})
