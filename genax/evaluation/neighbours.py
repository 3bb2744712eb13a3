"""Samples beside the training images that are most like them, which shows what was only copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from genax.core.data import Data, Shard, open_data
from genax.evaluation.pictures import film_strip

READ_AT_A_TIME = 1_000


def nearest_images(
    samples: Float[np.ndarray, "n h w c"], data: Data, count: int, workdir: Any
) -> Float[np.ndarray, "n count h w c"]:
    """Return the images of a data set that are nearest to each sample, the nearest first.

    Near is a small squared distance of pixels. Of a set of fewer images than `count` all are
    returned.
    """
    flat = np.asarray(samples, np.float32).reshape(len(samples), -1)
    distances, images = np.empty((len(samples), 0)), np.empty((len(samples), 0, *samples.shape[1:]))
    for batch in open_data(data, workdir).evaluate(READ_AT_A_TIME, Shard()):
        real = batch["image"][batch["mask"] > 0]
        pixels = real.reshape(len(real), -1)
        found = np.square(flat).sum(1)[:, None] - 2 * flat @ pixels.T + np.square(pixels).sum(1)
        distances = np.concatenate([distances, found], axis=1)
        order = np.argsort(distances, axis=1, kind="stable")[:, :count]
        kept = images.shape[1]
        rows = np.arange(len(samples))[:, None]
        old = images[rows, np.minimum(order, max(kept - 1, 0))] if kept else real[order]
        new = real[np.maximum(order - kept, 0)]
        images = np.where((order < kept)[..., None, None, None], old, new)
        distances = np.take_along_axis(distances, order, axis=1)
    return images


def beside_neighbours(data: Data, count: int = 5) -> Callable[..., Image.Image]:
    """Return the `render` of a sampler of images: each in a row with its nearest images of a set.

    data: images like the samples.
    count: how many of them stand beside a sample.
    """

    def render(samples: Any, batch: Any, workdir: Any) -> Image.Image:
        nearest = nearest_images(np.asarray(samples), data, count, workdir)
        return film_strip(np.concatenate([np.asarray(samples)[:, None], nearest], axis=1))

    return render
