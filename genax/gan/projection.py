"""Projection of images into a generator's latent space: the latents that give them, by descent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float

from genax.core.nets import pure
from genax.core.task import Batch
from genax.gan.latents import Frames
from genax.nn.conditions import Condition, unconditional
from genax.nn.resample import average_downsample

Images = Float[Array, "b h w c"]
# (images, wanted) -> how far each is from the other.
Distance = Callable[[Images, Images], Float[Array, " b"]]


def pixel_distance(images: Images, wanted: Images) -> Float[Array, " b"]:
    """Return mean squared differences of pixels, summed over the size and its halves down to 4."""
    difference, total = images - wanted, jnp.zeros(len(images))
    while True:
        total = total + jnp.square(difference).mean((1, 2, 3))
        if difference.shape[1] % 2 or difference.shape[1] <= 4:
            return total
        difference = average_downsample(difference)


def project(
    nets: nn.Module,
    batch: Batch,
    steps: int = 300,
    learning_rate: float = 0.05,
    distance: Distance = pixel_distance,
    condition: Condition = unconditional,
) -> Frames:
    """Return each of batch["image"] beside the image of the latent that is nearest to it.

    Descent begins at 0, the mean of normal latents.

    steps, learning_rate, distance: see `descend`.
    condition: (nets, batch) -> keyword arguments of the generator.
    """
    given = condition(nets, batch)
    start = jnp.zeros((len(batch["index"]), nets.generator.latent_size))
    make = partial(pure(nets.generator, start, **given), **given)
    return _pairs(make, start, batch["image"], steps, learning_rate, distance)


def project_to_styles(
    nets: nn.Module,
    batch: Batch,
    steps: int = 300,
    learning_rate: float = 0.05,
    distance: Distance = pixel_distance,
    each_layer: bool = False,
) -> Frames:
    """Return each of batch["image"] beside the image of the styles that are nearest to it.

    Karras et al. 2020 (arXiv:1912.04958), appendix D, with a distance of pixels in place of LPIPS
    and without noise. Descent begins at the mean style.

    each_layer: whether each layer has a style of its own (W+), or all have one (W).
    """
    generator = nets.generator
    size, layers = len(batch["index"]), generator.num_styles
    start = jnp.broadcast_to(
        generator.mean_style(), (size, layers if each_layer else 1, generator.style_size)
    )
    every = (size, layers, generator.style_size)
    synthesise = pure(generator, jnp.broadcast_to(start, every), method="synthesise")

    def make(styles):
        return synthesise(jnp.broadcast_to(styles, every))

    return _pairs(make, start, batch["image"], steps, learning_rate, distance)


def descend(
    make: Callable[[Array], Images],
    start: Array,
    wanted: Images,
    steps: int,
    learning_rate: float,
    distance: Distance,
) -> Array:
    """Return latents whose images are near the wanted ones, by steps of Adam.

    The rate rises over the first twentieth of the steps and falls by a cosine over the last
    quarter, as in the official projector.
    """
    rise, fall = max(1, steps // 20), max(1, steps // 4)

    def rate(step):
        ramp = jnp.minimum(1.0, (steps - step) / fall)
        return learning_rate * (0.5 - 0.5 * jnp.cos(jnp.pi * ramp)) * jnp.minimum(1.0, step / rise)

    adam = optax.adam(rate)
    slope = jax.grad(lambda latents: distance(make(latents), wanted).sum())

    def step(carry: Any, _: None) -> tuple[Any, None]:
        latents, state = carry
        updates, state = adam.update(slope(latents), state)
        return (optax.apply_updates(latents, updates), state), None

    (latents, _), _ = lax.scan(step, (start, adam.init(start)), length=steps)
    return latents


def _pairs(make, start, wanted, steps, learning_rate, distance) -> Frames:
    found = descend(make, start, wanted, steps, learning_rate, distance)
    return jnp.stack([wanted, make(found)], axis=1)
