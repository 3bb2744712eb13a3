"""A denoiser with averaged weights: one network with a decay for one part and a warm-up for all."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from genax.core import Loss, Phase, Stage, Task, per_example
from genax.core.ema import ema_warmup
from tests.contracts.layers import MLP

IMAGE = (4, 4, 1)
DECAYS = {"denoiser/Dense_0": 0.5, "denoiser": ema_warmup(0.9)}
ELEMENT = {"image": jax.ShapeDtypeStruct(IMAGE, jnp.float32)}


class Networks(nn.Module):
    denoiser: nn.Module


def denoising_loss(nets, batch):
    """The error of each pixel's noise, at a noise level drawn for each image."""
    image = batch["image"]
    level = per_example(jax.random.uniform, nets, batch, (1, 1, 1))
    noise = per_example(jax.random.normal, nets, batch, IMAGE)
    return Loss(jnp.square(nets.denoiser((1 - level) * image + level * noise) - noise))


def make(dtype: Any = jnp.float32) -> Task:
    phase = Phase("denoiser", denoising_loss, ("denoiser",), optax.adam(1e-2))
    return Task(Networks(MLP(IMAGE, dtype=dtype)), [Stage([phase])], ema=DECAYS)
