"""Images as grids of their own pixels: loss, exact likelihood, samples and task."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from genax.core import GenaxError, Loss, Task
from genax.core.task import Batch
from genax.evaluation.pictures import check_pictures
from genax.nn.conditions import Condition, unconditional
from genax.transformer.grid_decoder import grid_decoder
from genax.transformer.networks import Networks
from genax.transformer.tasks.grids import (
    check_patch,
    draw_grids,
    grid_loss,
    grid_task,
    pixels_to_values,
    values_to_pixels,
)


def pixel_task(config: ConfigDict, data: Any, scored: bool) -> Task:
    """Return the task of predicting pixels, with the settings "levels", "patch" and of `grid_task`.

    data: whose images are in [0, 1].
    scored: whether there are images to be scored.
    Raises GenaxError for images that no picture or no whole number of tokens can be made of, and
    for levels that are not those of the binarisation.
    """
    check_pictures(data)
    if (config.binarisation == "none") == (config.levels == 2):
        raise GenaxError(
            f"config.levels={config.levels} with config.binarisation={config.binarisation}: zeros "
            "and ones have 2 levels, and grey images more; set both."
        )
    shape = data.element["image"].shape
    check_patch(shape, config.levels, config.patch)
    pixels = {"levels": config.levels, "patch": config.patch}
    length, values = math.prod(shape) // config.patch**2, config.levels**config.patch**2
    given = "class" if config.num_classes else "nothing"
    says = {"log_likelihood": "log p(x), exact", "unit": "nats", "given": given, **pixels}
    return grid_task(
        config,
        Networks(grid_decoder(config, length, values, config.num_classes)),
        partial(pixel_loss, **pixels),
        partial(draw_pixels, shape=shape, **pixels),
        {"log_likelihood": partial(log_likelihood, **pixels)} if scored else {},
        {**says, "binarisation": config.binarisation},
    )


def pixel_loss(
    nets: nn.Module,
    batch: Batch,
    levels: int = 2,
    patch: int = 1,
    condition: Condition = unconditional,
    train: bool = True,
) -> Loss:
    """Loss of `grid_loss` of an image's pixels.

    batch["image"]: [b, h, w, c] in [0, 1], rounded to levels.
    levels, patch: see `pixels_to_values`.
    """
    values = pixels_to_values(batch["image"], levels, patch)
    return grid_loss(nets, batch, values, condition, train)


def log_likelihood(nets: nn.Module, batch: Batch, **pixels: Any) -> Loss:
    """Return log p(x) of each image in nats, exactly: higher is better.

    Metric: "bits_per_dim", -log2 p(x) over the number of pixels and channels.

    pixels: arguments of `pixel_loss`.
    """
    nats = pixel_loss(nets, batch, train=False, **pixels).values.sum(-1)
    dimensions = math.prod(batch["image"].shape[1:])
    return Loss(-nats, aux={"bits_per_dim": nats / (dimensions * math.log(2))})


def draw_pixels(
    nets: nn.Module,
    batch: Batch,
    shape: tuple[int, int, int],
    levels: int = 2,
    patch: int = 1,
    **drawn: Any,
) -> Float[Array, "b h w c"]:
    """Draw an image of [h, w, c] in [-1, 1] for each element of batch["index"].

    drawn: arguments of `draw_grids`.
    """
    length = math.prod(shape) // patch**2
    values = draw_grids(nets, batch, length, **drawn)
    return 2 * values_to_pixels(values, shape, levels, patch) - 1
