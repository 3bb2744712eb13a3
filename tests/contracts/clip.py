"""CLIP's shape (Radford et al. 2021): two towers, a learned scale, a loss of the whole batch."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from genax.core import Loss, Phase, Stage, Task
from tests.contracts.layers import MLP, cross_entropy

IMAGE, CAPTION, WIDTH = (4, 4, 1), (6,), 8
ELEMENT = {
    "image": jax.ShapeDtypeStruct(IMAGE, jnp.float32),
    "caption": jax.ShapeDtypeStruct(CAPTION, jnp.float32),
}


class Scale(nn.Module):
    """The inverse of a temperature, learned as its logarithm."""

    @nn.compact
    def __call__(self):
        return jnp.exp(self.param("log", nn.initializers.constant(np.log(1 / 0.07)), ()))


class Networks(nn.Module):
    image_tower: nn.Module
    text_tower: nn.Module
    scale: nn.Module


def embed(nets, batch):
    """Rows of length 1."""
    rows = {
        "image": nets.image_tower(batch["image"]),
        "caption": nets.text_tower(batch["caption"]),
    }
    return {name: x / jnp.linalg.norm(x, axis=-1, keepdims=True) for name, x in rows.items()}


def contrast(nets, batch, rows):
    """Mean of two cross-entropies, each row against all of the other tower's (InfoNCE)."""
    logits = nets.scale() * rows["image"] @ rows["caption"].T
    targets = jnp.arange(len(logits))
    values = (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2
    return Loss(values, aux={"scale": nets.scale()})


def make(dtype: Any = jnp.float32) -> Task:
    networks = Networks(MLP((WIDTH,), dtype=dtype), MLP((WIDTH,), dtype=dtype), Scale())
    trains = ("image_tower", "text_tower", "scale")
    phase = Phase("contrast", contrast, trains, optax.adam(1e-3), embed=embed)
    return Task(networks, [Stage([phase])], ema={"image_tower": 0.9})
