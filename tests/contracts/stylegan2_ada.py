"""StyleGAN2's shape (Karras et al. 2020a, 2020b): four phases, two of them lazy, and an adaptive
augmentation whose probability follows the discriminator."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from genax.core import Loss, Phase, Stage, Task, per_example, pure, read, write
from genax.gan.game import NON_SATURATING
from genax.gan.penalties import path_length_penalty, path_lengths, zero_centred
from tests.contracts.layers import MLP

IMAGE = (4, 4, 1)
LATENT = 4
ELEMENT = {"image": jax.ShapeDtypeStruct(IMAGE, jnp.float32)}
R1_EVERY, PATH_EVERY = 2, 3


class Generator(nn.Module):
    """A mapping network, then a synthesis network modulated by what it gives."""

    dtype: Any

    def setup(self):
        self.mapping = MLP((8,), (8,), self.dtype)
        self.synthesis = MLP(IMAGE, dtype=self.dtype)

    def __call__(self, z):
        return self.synthesise(self.style(z))

    def style(self, z):
        return self.mapping(z)

    def synthesise(self, w):
        return self.synthesis(w)


class Networks(nn.Module):
    generator: nn.Module
    discriminator: nn.Module


def scalar(nets, name, initial=0.0):
    return read(nets, "running", name, lambda: jnp.float32(initial))


def augment(nets, batch, images):
    """Invert and shift the brightness of each image with probability p."""
    p = scalar(nets, "probability", 0.3)
    chosen = per_example(jax.random.uniform, nets, batch, (2,)) < p
    shift = 0.2 * per_example(jax.random.normal, nets, batch)
    images = jnp.where(chosen[:, 0, None, None, None], -images, images)
    return images + jnp.where(chosen[:, 1], shift, 0.0)[:, None, None, None]


def generate(nets, batch):
    return nets.generator(per_example(jax.random.normal, nets, batch, (LATENT,)))


def discriminator_loss(nets, batch, target=0.6, speed=0.01):
    """Logistic loss; r_t, the mean sign of the real scores, moves p (Karras et al. 2020a, 2.2).

    A sign is no linear function of a mean, so p follows the r_t of the steps before, which is
    whole; this batch's signs only average, and an average of parts is that of the whole.
    """
    fake = nets.discriminator(augment(nets, batch, lax.stop_gradient(generate(nets, batch))))[:, 0]
    real = nets.discriminator(augment(nets, batch, batch["image"]))[:, 0]
    sign, p = scalar(nets, "mean_sign"), scalar(nets, "probability", 0.3)
    write(nets, "running", "mean_sign", 0.9 * sign + 0.1 * jnp.sign(real).mean())
    write(nets, "running", "probability", jnp.clip(p + speed * jnp.sign(sign - target), 0.0, 1.0))
    return Loss(NON_SATURATING.discriminator(real, fake), aux={"p": p})


def r1_loss(nets, batch, gamma=1.0):
    """R1, with the weight that makes up for the steps it is left out."""
    discriminator = pure(nets.discriminator, batch["image"])
    return Loss(zero_centred(discriminator, batch["image"], R1_EVERY * gamma))


def generator_loss(nets, batch):
    fake = nets.discriminator(augment(nets, batch, generate(nets, batch)))[:, 0]
    return Loss(NON_SATURATING.generator(None, fake))


def lengths_of(nets, batch):
    z = per_example(jax.random.normal, nets, batch, (LATENT,))
    w = nets.generator.style(z)
    synthesise = pure(nets.generator, w, method="synthesise")
    return path_lengths(synthesise, w, per_example(jax.random.normal, nets, batch, IMAGE))


def path_length_loss(nets, batch, lengths, weight=2.0):
    """Path length regularisation against the running mean of lengths (Karras et al. 2020b, 3.2)."""
    mean = scalar(nets, "mean_path_length")
    values, moved = path_length_penalty(lengths, mean, PATH_EVERY * weight)
    write(nets, "running", "mean_path_length", moved)
    return Loss(values, aux={"length": lengths})


def make(dtype: Any = jnp.float32) -> Task:
    networks = Networks(generator=Generator(dtype), discriminator=MLP((1,), dtype=dtype))

    def phase(name, loss, network, every=1, embed=None):
        # Lazy regularisation rescales Adam's settings by k / (k + 1).
        c = every / (every + 1) if every > 1 else 1.0
        return Phase(name, loss, (network,), optax.adam(2e-3 * c, b1=0.0, b2=0.99**c), every, embed)

    phases = [
        phase("discriminator", discriminator_loss, "discriminator"),
        phase("r1", r1_loss, "discriminator", R1_EVERY),
        phase("generator", generator_loss, "generator"),
        phase("path_length", path_length_loss, "generator", PATH_EVERY, lengths_of),
    ]
    return Task(networks, [Stage(phases)], ema={"generator": 0.9})
