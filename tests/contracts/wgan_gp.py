"""WGAN-GP (Gulrajani et al. 2017), its critic's first layer spectrally normalised as well."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from genax.core import Loss, Phase, Stage, Task, per_example, pure
from genax.gan.game import WASSERSTEIN
from genax.gan.penalties import between, unit_slope
from tests.contracts.layers import MLP

IMAGE = (4, 4, 1)
LATENT = 4
GENERATOR_EVERY = 5
ELEMENT = {"image": jax.ShapeDtypeStruct(IMAGE, jnp.float32)}


class Critic(nn.Module):
    """Scores; `update` moves the spectral norm's estimate, which no initialisation may.

    The last layer has no bias: it would take no part in a gap of scores.
    """

    dtype: Any

    @nn.compact
    def __call__(self, image, update=False):
        layer = nn.SpectralNorm(nn.Dense(8, dtype=self.dtype))
        x = layer(image.reshape(len(image), -1), update_stats=update and not self.is_initializing())
        x = jnp.tanh(nn.Dense(8, dtype=self.dtype)(jnp.tanh(x)))
        return nn.Dense(1, use_bias=False, dtype=self.dtype)(x)[:, 0].astype(jnp.float32)


class Networks(nn.Module):
    generator: nn.Module
    critic: nn.Module


def generate(nets, batch):
    return nets.generator(per_example(jax.random.normal, nets, batch, (LATENT,)))


def critic_loss(nets, batch, penalty=10.0):
    """Eq. 3: the gap of the scores, and a slope of one between real images and fakes."""
    real, fake = batch["image"], lax.stop_gradient(generate(nets, batch))
    gap = WASSERSTEIN.discriminator(nets.critic(real), nets.critic(fake, update=True))
    points = between(nets, batch, real, fake)
    slope = unit_slope(pure(nets.critic, points), points, penalty)
    return Loss(gap + slope, aux={"gap": gap, "slope": slope})


def generator_loss(nets, batch):
    return Loss(WASSERSTEIN.generator(None, nets.critic(generate(nets, batch))))


def make(dtype: Any = jnp.float32) -> Task:
    networks = Networks(generator=MLP(IMAGE, dtype=dtype), critic=Critic(dtype))
    adam = optax.adam(1e-4, b1=0.0, b2=0.9)
    phases = [
        Phase("critic", critic_loss, ("critic",), adam),
        Phase("generator", generator_loss, ("generator",), adam, every=GENERATOR_EVERY),
    ]
    return Task(networks, [Stage(phases)])
