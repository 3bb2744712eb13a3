"""A GAN whose generator normalises by the batch, and whose discriminator is penalised (R1)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from genax.core import Loss, Phase, Stage, Task, per_example, pure
from genax.gan.penalties import zero_centred
from genax.nn.ema import ema_half_life, ema_late
from genax.nn.norms import BatchNorm
from tests.contracts.layers import MLP

IMAGE = (4, 4, 1)
LATENT = 4
ELEMENT = {"image": jax.ShapeDtypeStruct(IMAGE, jnp.float32)}


class Generator(nn.Module):
    """No bias before BatchNorm, which would take it away again."""

    dtype: Any

    @nn.compact
    def __call__(self, z, train=True):
        x = nn.Dense(16, use_bias=False, dtype=self.dtype)(z)
        return MLP(IMAGE, (), self.dtype)(jnp.tanh(BatchNorm()(x, train)))


class Networks(nn.Module):
    generator: nn.Module
    discriminator: nn.Module


def generate(nets, batch):
    return nets.generator(per_example(jax.random.normal, nets, batch, (LATENT,)))


def discriminator_loss(nets, batch):
    """Hinge loss, smoothed, and R1."""
    fake = nets.discriminator(lax.stop_gradient(generate(nets, batch)))[:, 0]
    real = nets.discriminator(batch["image"])[:, 0]
    penalty = zero_centred(pure(nets.discriminator, batch["image"]), batch["image"], 2.0)
    return Loss(jax.nn.softplus(1 - real) + jax.nn.softplus(1 + fake) + penalty)


def generator_loss(nets, batch):
    return Loss(-nets.discriminator(generate(nets, batch))[:, 0])


def make(dtype: Any = jnp.float32) -> Task:
    networks = Networks(generator=Generator(dtype), discriminator=MLP((1,), dtype=dtype))
    adam = optax.adam(2e-4, b1=0.5)
    phases = [
        Phase("discriminator", discriminator_loss, ("discriminator",), adam),
        Phase("generator", generator_loss, ("generator",), adam),
    ]
    # Samples are those of averaged weights with averaged statistics (BigGAN, Brock et al. 2019).
    averages = {
        "generator": ema_half_life(64.0, 16, 0.5),
        "batch_stats/generator": ema_late(0.9, 3),
    }
    return Task(networks, [Stage(phases)], ema=averages)
