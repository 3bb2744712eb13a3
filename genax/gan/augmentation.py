"""Differentiable augmentation of what a discriminator sees (Zhao et al. 2020, arXiv:2006.10738).

Real images and fakes are changed alike in both players' moves, and the generator's gradient flows
through the change. The operations are those of the official code, for images in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.nets import per_example
from genax.core.task import Batch
from genax.gan.game import View

Images = Float[Array, "b h w c"]
# (what draws one number or more for each element) -> a function from images to images.
Operation = Callable[[Callable[..., Array]], View]


def color(draw: Callable[..., Array]) -> View:
    """Shift the brightness by up to 0.5, scale the saturation by 0 to 2 and contrast by 0.5 to 1.5.

    Brightness comes first and contrast last.
    """
    shift, saturation, contrast = (draw(jax.random.uniform, (1, 1, 1)) for _ in range(3))

    def change(images: Images) -> Images:
        images = images + shift - 0.5
        grey = images.mean(-1, keepdims=True)
        images = (images - grey) * (2 * saturation) + grey
        mean = images.mean((1, 2, 3), keepdims=True)
        return (images - mean) * (contrast + 0.5) + mean

    return change


def translation(draw: Callable[..., Array]) -> View:
    """Shift images by up to an eighth of their height and width; what comes in is 0."""
    place = draw(jax.random.uniform, (2,))

    def change(images: Images) -> Images:
        for axis in (1, 2):
            size = images.shape[axis]
            most = int(size / 8 + 0.5)
            shift = _whole(place[:, axis - 1], -most, most)
            shape = [1] * images.ndim
            shape[axis] = size
            source = jnp.arange(size) + shift[:, None]
            inside = (source >= 0) & (source < size)
            shape[0] = len(images)
            index = jnp.clip(source, 0, size - 1).reshape(shape)
            moved = jnp.take_along_axis(images, index, axis)
            images = jnp.where(inside.reshape(shape), moved, 0.0)
        return images

    return change


def flip(draw: Callable[..., Array]) -> View:
    """Mirror half of the images. It is no operation of the paper."""
    mirrored = draw(jax.random.uniform, (1, 1, 1)) < 0.5
    return lambda images: jnp.where(mirrored, images[:, :, ::-1], images)


def cutout(draw: Callable[..., Array]) -> View:
    """Set a square of half the height and width to 0; it may lie partly outside."""
    place = draw(jax.random.uniform, (2,))

    def change(images: Images) -> Images:
        inside = jnp.ones((len(images), 1, 1, 1), bool)
        for axis in (1, 2):
            size = images.shape[axis]
            half = int(size / 2 + 0.5)
            start = _whole(place[:, axis - 1], 0, size - half % 2) - half // 2
            pixels = jnp.arange(size)
            covered = (pixels >= start[:, None]) & (pixels < start[:, None] + half)
            shape = [len(images), 1, 1, 1]
            shape[axis] = size
            inside = inside & covered.reshape(shape)
        return jnp.where(inside, 0.0, images)

    return change


def _whole(uniform: Array, least: int, most: int) -> Array:
    """Whole numbers from `least` to `most`, of numbers in [0, 1)."""
    number = least + jnp.floor(uniform * (most - least + 1)).astype(jnp.int32)
    return jnp.minimum(number, most)


def differentiable_augmentation(
    nets: nn.Module, batch: Batch, operations: Sequence[Operation]
) -> View:
    """Return the images after these operations in turn, with numbers of each element's own."""

    def draw(distribution: Callable[..., Array], shape: tuple[int, ...]) -> Any:
        return per_example(distribution, nets, batch, shape)

    changes = [operation(draw) for operation in operations]

    def change(images: Images) -> Images:
        for one in changes:
            images = one(images)
        return images

    return change


# What a setting `augmentation` may be.
POLICIES: Mapping[str, tuple[Operation, ...]] = {
    "none": (),
    "translation": (translation,),
    "translation_cutout": (translation, cutout),
    "color_translation": (color, translation),
    "color_translation_cutout": (color, translation, cutout),
}

# The changes of CR-GAN (Zhang et al. 2020, arXiv:1910.12027): flips, and shifts by 4 of 32 pixels.
SHIFTED = partial(differentiable_augmentation, operations=(flip, translation))


def augment_by(policy: str) -> Callable[[nn.Module, Batch], View]:
    """Return the `Augment` of a policy."""
    return partial(differentiable_augmentation, operations=POLICIES[policy])
