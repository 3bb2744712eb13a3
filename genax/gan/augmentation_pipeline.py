"""The augmentations of StyleGAN2-ADA: its pipeline "bgc", of blits, geometry and colour.

Karras et al. 2020 (arXiv:2006.06676), appendix B. Each transformation happens with the same
probability. Those of geometry are one matrix for each image, and those of colour another, so an
image is resampled once. All is differentiable by the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, partial, reduce
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from genax.core.errors import GenaxError
from genax.core.nets import per_example
from genax.core.task import Batch
from genax.gan.game import View

# The low-pass filter of the wavelet sym6, which is not symmetric.
SYM6 = np.array(
    [
        0.015404109327027373,
        0.0034907120842174702,
        -0.11799011114819057,
        -0.048311742585633,
        0.4910559419267466,
        0.787641141030194,
        0.3379294217276218,
        -0.07263752278646252,
        -0.021060292512300564,
        0.04472490177066578,
        0.0017677118642428036,
        -0.007800708325034148,
    ]
)
FILTER = SYM6 / SYM6.sum()
# Pixels beyond the image that the filter reads when it halves the resolution.
BEYOND = 3


def pipeline(nets: nn.Module, batch: Batch, probability: float | Float[Array, ""]) -> View:
    """Return augmentations of images like batch["image"], new ones for each element.

    probability: of each transformation.
    """
    size = batch["image"].shape[1:3]
    geometry = per_example(geometric_matrix, nets, batch, size, probability)
    colour = per_example(colour_matrix, nets, batch, probability)
    return lambda images: recoloured(warped(images, geometry), colour)


def geometric_matrix(
    key: Key[Array, ""], size: tuple[int, int], probability: float | Float[Array, ""]
) -> Float[Array, "3 3"]:
    """Return the matrix that leads from a pixel of the result to that of the image.

    Both are (x, y, 1) from the centre of an image, in pixels. Blits are flips, quarter turns and
    whole shifts; then come scaling, turns before and after a change of the aspect, and shifts.

    size: height and width.
    """
    height, width = size
    chance, value, normal = _numbers(key, 8)
    happens = chance < probability
    # Of the two turns, one at least happens with the probability.
    turns = chance < 1 - jnp.sqrt(jnp.clip(1 - probability, 0, 1))
    flip = jnp.where(happens[0], value[0] < 0.5, 0.0)
    quarters = jnp.where(happens[1], jnp.floor(4 * value[1]), 0.0)
    whole = jnp.where(happens[2], 0.25 * value[2:4] - 0.125, 0.0)
    scale = jnp.where(happens[3], jnp.exp2(0.2 * normal[0]), 1.0)
    before = jnp.where(turns[4], _angle(value[4]), 0.0)
    aspect = jnp.where(happens[5], jnp.exp2(0.2 * normal[1]), 1.0)
    after = jnp.where(turns[6], _angle(value[5]), 0.0)
    shift = jnp.where(happens[7], 0.125 * normal[2:4], 0.0)
    # Inverses, in the order in which the image is changed.
    steps = (
        _scaling(1 - 2 * flip, 1.0),
        _turn(math.pi / 2 * quarters),
        _shift(-jnp.round(whole[0] * width), -jnp.round(whole[1] * height)),
        _scaling(1 / scale, 1 / scale),
        _turn(before),
        _scaling(1 / aspect, aspect),
        _turn(after),
        _shift(-shift[0] * width, -shift[1] * height),
    )
    return _product(steps)


def colour_matrix(
    key: Key[Array, ""], probability: float | Float[Array, ""]
) -> Float[Array, "4 4"]:
    """Return the matrix that changes (red, green, blue, 1).

    Brightness, contrast, inversion of the luma, hue and saturation, in this order.
    """
    chance, value, normal = _numbers(key, 5)
    happens = chance < probability
    brightness = jnp.where(happens[0], 0.2 * normal[0], 0.0)
    contrast = jnp.where(happens[1], jnp.exp2(0.5 * normal[1]), 1.0)
    flip = jnp.where(happens[2], value[0] < 0.5, 0.0)
    hue = jnp.where(happens[3], _angle(value[1]), 0.0)
    saturation = jnp.where(happens[4], jnp.exp2(normal[2]), 1.0)
    one = jnp.eye(4)
    luma = jnp.array([1.0, 1.0, 1.0, 0.0]) / math.sqrt(3)
    along = jnp.outer(luma, luma)
    steps = (
        along + (one - along) * saturation,
        _turn_around_grey(hue),
        one - 2 * along * flip,
        jnp.diag(jnp.array([1.0, 1.0, 1.0, 0.0]) * contrast + jnp.array([0.0, 0.0, 0.0, 1.0])),
        one.at[:3, 3].set(brightness),
    )
    return _product(steps)


def warped(
    images: Float[Array, "b h w c"], matrices: Float[Array, "b 3 3"]
) -> Float[Array, "b h w c"]:
    """Return images whose pixels are those that the matrices lead to: see `geometric_matrix`.

    Images are continued by reflection up to three times their size, and are black beyond. As in the
    official code they are read between pixels at twice the resolution, with filters of 12 taps
    before and after. Padding and filter are one matrix along each axis.
    """
    height, width = images.shape[1:3]
    rows, columns = (jnp.asarray(_enlarging(size)) for size in (height, width))
    large = jnp.einsum("bhwc,hH,wW->bHWc", images, rows, columns, precision="highest")
    made = tuple(2 * (size + 2 * BEYOND) for size in (height, width))
    y, x = ((jnp.arange(count) - count / 2 + 1) / 2 for count in made)
    points = jnp.stack(
        [jnp.broadcast_to(x, made), jnp.broadcast_to(y[:, None], made), jnp.ones(made)]
    )
    places = 2 * jnp.einsum("bij,jHW->biHW", matrices[:, :2], points, precision="highest") - 0.5
    centre = jnp.array([large.shape[2] - 1, large.shape[1] - 1]) / 2
    places = places + centre[:, None, None]
    read = jax.vmap(_between_pixels)(large, places[:, 0], places[:, 1])
    rows, columns = (jnp.asarray(_reducing(size)) for size in (height, width))
    return jnp.einsum("bHWc,Hh,Ww->bhwc", read, rows, columns, precision="highest")


def recoloured(
    images: Float[Array, "b h w c"], matrices: Float[Array, "b 4 4"]
) -> Float[Array, "b h w c"]:
    """Return images of changed colours: see `colour_matrix`. Grey is the mean of the three.

    Raises GenaxError for images that are neither grey nor RGB.
    """
    if images.shape[-1] == 1:
        mean = matrices[:, :3].mean(1)
        return images * mean[:, None, None, None, :3].sum(-1) + mean[:, None, None, None, 3]
    if images.shape[-1] != 3:
        raise GenaxError(
            f"colours of images with {images.shape[-1]} channels cannot be augmented; adaptive "
            "augmentation takes 1 channel (grey) or 3 (RGB)."
        )
    changed = jnp.einsum("bij,bhwj->bhwi", matrices[:, :3, :3], images, precision="highest")
    return changed + matrices[:, None, None, :3, 3]


def _numbers(key: Key[Array, ""], count: int) -> tuple[Array, Array, Array]:
    """Return `count` uniform numbers, as many others of them, and as many normal ones.

    They are drawn together, since each draw of its own takes a second to compile.
    """
    gaussian, uniform = jax.random.split(key)
    chance, value = jax.random.uniform(uniform, (2, count))
    return chance, value, jax.random.normal(gaussian, (count,))


def _angle(uniform: Array) -> Array:
    return math.pi * (2 * uniform - 1)


def _product(steps: Sequence[Array]) -> Array:
    return reduce(partial(jnp.matmul, precision="highest"), steps)


def _matrix(rows: Sequence[Sequence[Any]]) -> Array:
    return jnp.stack([jnp.stack([jnp.asarray(x, jnp.float32) for x in row]) for row in rows])


def _shift(x: Any, y: Any) -> Array:
    return _matrix([[1, 0, x], [0, 1, y], [0, 0, 1]])


def _scaling(x: Any, y: Any) -> Array:
    return _matrix([[x, 0, 0], [0, y, 0], [0, 0, 1]])


def _turn(angle: Any) -> Array:
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    return _matrix([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


def _turn_around_grey(angle: Any) -> Array:
    """Return a rotation of colours around the axis of greys (Rodrigues' formula)."""
    sine, rest = jnp.sin(angle) / math.sqrt(3), (1 - jnp.cos(angle)) / 3
    cosine = jnp.cos(angle) + rest
    less, more = rest - sine, rest + sine
    return _matrix(
        [[cosine, less, more, 0], [more, cosine, less, 0], [less, more, cosine, 0], [0, 0, 0, 1]]
    )


@cache
def _enlarging(size: int) -> np.ndarray:
    """Return the map of an axis that continues it by reflection and doubles its resolution."""
    padded = np.pad(np.eye(size), ((0, 0), (size - 1, size - 1)), mode="reflect")
    spread = np.zeros((size, 2 * padded.shape[1] + 11))
    spread[:, 6 : 6 + 2 * padded.shape[1] : 2] = padded
    taps = 2 * FILTER[::-1]
    return np.stack(
        [spread[:, start : start + 12] @ taps for start in range(2 * padded.shape[1])], axis=1
    ).astype(np.float32)


@cache
def _reducing(size: int) -> np.ndarray:
    """Return the map of an axis that halves its resolution and leaves out what lies beyond."""
    matrix = np.zeros((2 * (size + 2 * BEYOND), size))
    for place in range(size):
        matrix[2 * place + 1 : 2 * place + 13, place] = FILTER
    return matrix.astype(np.float32)


def _between_pixels(
    image: Float[Array, "h w c"], x: Float[Array, "H W"], y: Float[Array, "H W"]
) -> Float[Array, "H W c"]:
    """Return an image's colours at points, linear between pixels, and black outside."""
    height, width, channels = image.shape
    flat = image.reshape(-1, channels)
    left, top = jnp.floor(x), jnp.floor(y)
    total = jnp.zeros((*x.shape, channels), image.dtype)
    for column in (left, left + 1):
        for row in (top, top + 1):
            weight = (1 - jnp.abs(x - column)) * (1 - jnp.abs(y - row))
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            index = jnp.where(inside, row * width + column, 0).astype(jnp.int32)
            total += jnp.where(inside, weight, 0.0)[..., None] * flat[index]
    return total
