"""How near translated images are to those that they should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.task import Batch, Evaluator

Images = Float[Array, "b h w c"]


def mean_distance(images: Images, real: Images) -> Float[Array, " b"]:
    """Return |x - y|, the mean over the pixels and channels of each image, x held to [-1, 1]."""
    return jnp.abs(jnp.clip(images, -1, 1) - real).mean((1, 2, 3))


def peak_ratio(images: Images, real: Images) -> Float[Array, " b"]:
    """Return the peak signal-to-noise ratio of images in [-1, 1] in decibels: 10 log10(4 / mse).

    The mean is over pixels and channels. Images that are equal have that of a mean square of 1e-10.
    """
    squares = jnp.square(jnp.clip(images, -1, 1) - real).mean((1, 2, 3))
    return 10 * jnp.log10(4 / jnp.maximum(squares, 1e-10))


SCORES = {"l1": mean_distance, "psnr": peak_ratio}


def likeness(
    draw: Callable[[Any, Batch], Images],
    baseline: Callable[[Batch], Images],
    what: str,
    real: str = "image",
    **evaluator: Any,
) -> Evaluator:
    """Evaluator of samples that have a true counterpart: "l1" and "psnr", means over the images.

    The floor is that of images which no network made.

    draw: a sampler's function, (nets, batch) -> images in [-1, 1].
    baseline: batch -> the images of the floor.
    what: the images of the floor are, for the result.
    real: the batch's name of the counterparts.
    evaluator: further arguments of `Evaluator`.
    """

    def rows(nets: Any, batch: Batch) -> dict[str, dict[str, Array]]:
        both = {"found": draw(nets, batch), "floor": baseline(batch)}
        return {
            name: {score: function(images, batch[real]) for score, function in SCORES.items()}
            for name, images in both.items()
        }

    def means(found: Any) -> dict[str, float]:
        return {score: float(values.mean()) for score, values in found.items()}

    return Evaluator(
        rows,
        lambda found, workdir: means(found["found"]),
        says=lambda found, workdir: {
            "images": len(found["found"]["l1"]),
            "range": "[-1, 1]",
            "floor": means(found["floor"]),
            "floor_of": what,
        },
        **evaluator,
    )
