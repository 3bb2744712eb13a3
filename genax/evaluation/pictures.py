"""Pictures of samples, for people to look at."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from genax.core.errors import GenaxError

CHANNELS = (1, 3)
MIN_TILE = 64
GAP = 2


def check_pictures(data: Any) -> None:
    """Raise GenaxError if `image_grid` cannot draw images like those of a data set.

    An experiment whose samples are like its data calls this when it is built.
    """
    shape = data.element["image"].shape
    if len(shape) != 3 or shape[-1] not in CHANNELS:
        raise GenaxError(
            f"images of {getattr(data, 'name', data)} have the shape {shape}, but samples are "
            "drawn with 1 channel (grey) or 3 (RGB); choose another data set."
        )


def image_grid(
    samples: Float[np.ndarray, "n h w c"], batch: Any = None, workdir: Any = None
) -> Image.Image:
    """Draw images side by side, nearly square, in rows from left to right.

    Images below 64 pixels are enlarged by a whole number.

    samples: [n, h, w, c] in [-1, 1], with 1 (grey) or 3 (RGB) channels. Values outside are clipped.
    Raises GenaxError for another shape.
    """
    return _draw(samples, math.ceil(math.sqrt(len(samples))))


def film_strip(
    states: Float[np.ndarray, "n k h w c"], batch: Any = None, workdir: Any = None
) -> Image.Image:
    """Draw states on the way to each sample side by side, one row a sample.

    states: see `image_grid`, of each of k states.
    Raises GenaxError for another shape.
    """
    states = np.asarray(states, np.float32)
    if states.ndim != 5 or not states.size:
        raise GenaxError(
            f"film_strip got states of shape {states.shape}: it draws [n, k, h, w, 1 or 3], such "
            "as the samples of a solver that is `filmed`."
        )
    return _draw(states.reshape(-1, *states.shape[2:]), states.shape[1])


def side_by_side(
    samples: Float[np.ndarray, "n h w c"],
    batch: Any,
    workdir: Any,
    before: Callable[[Any], Any],
    after: Callable[[Any], Any] | None = None,
) -> Image.Image:
    """Draw each sample in a row, between what it was made of and what it should be.

    before, after: of the batch, images of the samples' shape.
    """
    columns = [before(batch), samples] + ([] if after is None else [after(batch)])
    return film_strip(np.stack([np.asarray(column) for column in columns], axis=1))


def _draw(samples: Any, columns: int) -> Image.Image:
    """Draw images in rows of so many."""
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 4 or samples.shape[-1] not in CHANNELS or not len(samples):
        raise GenaxError(
            f"image_grid got samples of shape {samples.shape}: it draws [n, h, w, 1 or 3], n > 0."
        )
    count, height, width, _ = samples.shape
    levels = np.rint((np.nan_to_num(samples).clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    factor = max(1, math.ceil(MIN_TILE / max(height, width)))
    tiles = np.repeat(levels, 3 // levels.shape[-1], axis=-1).repeat(factor, 1).repeat(factor, 2)
    rows = math.ceil(count / columns)
    high, wide = height * factor + GAP, width * factor + GAP
    picture = np.full((rows * high + GAP, columns * wide + GAP, 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * high + GAP, number % columns * wide + GAP
        picture[top : top + high - GAP, left : left + wide - GAP] = tile
    return Image.fromarray(picture)
