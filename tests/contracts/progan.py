"""ProGAN's shape (Karras et al. 2018): a stage a resolution, each fading in what it adds."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from genax.core import Evaluator, Loss, Phase, Sampler, Stage, Task, per_example
from genax.evaluation.pictures import image_grid
from tests.contracts.layers import MLP

LATENT, WIDTH = 4, 4
RESOLUTIONS = (2, 4)
STAGE_STEPS, FADE_STEPS = 3, 4
ELEMENT = tuple(
    {"image": jax.ShapeDtypeStruct((size, size, 1), jnp.float32)} for size in RESOLUTIONS
)


def conv(features, name, dtype, kernel=3):
    return nn.Conv(features, (kernel, kernel), dtype=dtype, name=name)


def upsample(x):
    return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)


class Generator(nn.Module):
    """Images of resolution `level`, blended with the enlarged ones of the level before."""

    dtype: Any

    @nn.compact
    def __call__(self, z, level, alpha):
        x = MLP((RESOLUTIONS[0], RESOLUTIONS[0], WIDTH), (), self.dtype, name="block_0")(z)
        image = conv(1, "image_0", self.dtype, 1)(jnp.tanh(x))
        for number in range(1, level + 1):
            x = jnp.tanh(conv(WIDTH, f"block_{number}", self.dtype)(upsample(jnp.tanh(x))))
            new = conv(1, f"image_{number}", self.dtype, 1)(x)
            image = upsample(image) + alpha * (new - upsample(image))
        return image.astype(jnp.float32)


class Discriminator(nn.Module):
    """Its mirror image."""

    dtype: Any

    @nn.compact
    def __call__(self, image, level, alpha):
        x = jnp.tanh(conv(WIDTH, f"image_{level}", self.dtype, 1)(image))
        for number in range(level, 0, -1):
            x = nn.avg_pool(jnp.tanh(conv(WIDTH, f"block_{number}", self.dtype)(x)), (2, 2), (2, 2))
            small = nn.avg_pool(image, (2, 2), (2, 2))
            old = jnp.tanh(conv(WIDTH, f"image_{number - 1}", self.dtype, 1)(small))
            x = old + alpha * (x - old)
        return MLP((1,), (), self.dtype, name="block_0")(x)[:, 0]


class Networks(nn.Module):
    generator: nn.Module
    discriminator: nn.Module


def fade(batch, level):
    """How far the level has come in: it follows the stage's own steps."""
    return jnp.minimum(1.0, (batch["step"] + 1) / FADE_STEPS) if level else 1.0


def images(nets, batch):
    """Samples in the resolution of the stage, in mid fade as in training."""
    level = batch["stage"]
    z = per_example(jax.random.normal, nets, batch, (LATENT,))
    return nets.generator(z, level, fade(batch, level))


def realness(nets, batch):
    """The discriminator's score of samples, a mean over as many as asked for."""
    level = batch["stage"]
    return Loss(nets.discriminator(images(nets, batch), level, fade(batch, level)))


def scores(nets, batch, level, stop=False):
    """The scores of real images and of fakes."""
    alpha = fade(batch, level)
    fake = nets.generator(per_example(jax.random.normal, nets, batch, (LATENT,)), level, alpha)
    fake = lax.stop_gradient(fake) if stop else fake
    real = nets.discriminator(batch["image"], level, alpha)
    return real, nets.discriminator(fake, level, alpha)


def discriminator_loss(nets, batch, level):
    real, fake = scores(nets, batch, level, stop=True)
    return Loss(jax.nn.softplus(-real) + jax.nn.softplus(fake))


def generator_loss(nets, batch, level):
    return Loss(jax.nn.softplus(-scores(nets, batch, level)[1]))


def stage(level: int, steps: int | None) -> Stage:
    """Trains the levels that are in play."""

    def phase(network, loss):
        trains = [f"{network}/{part}_{n}" for n in range(level + 1) for part in ("block", "image")]
        return Phase(network, partial(loss, level=level), trains, optax.adam(1e-3, b1=0.0, b2=0.99))

    return Stage(
        [phase("discriminator", discriminator_loss), phase("generator", generator_loss)], steps
    )


def make(dtype: Any = jnp.float32) -> Task:
    networks = Networks(generator=Generator(dtype), discriminator=Discriminator(dtype))
    return Task(
        networks,
        [stage(0, STAGE_STEPS), stage(1, None)],
        samplers={"images": Sampler(images, image_grid)},
        evaluators={"realness": Evaluator(realness, examples=10)},
        ema={"generator": 0.9},
    )
