"""How sharp images are: the energy of their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.task import Batch, Evaluator

Images = Float[Array, "b h w c"]


def gradient_energy(images: Images) -> Float[Array, " b"]:
    """Return the mean squared difference of neighbouring pixels of each image, over both axes.

    E (x[i + 1, j] - x[i, j])^2 + E (x[i, j + 1] - x[i, j])^2, of pixels clipped to [-1, 1]. Blurred
    images have less of it than sharp ones, and noise has more, so it is best near that of the data.
    """
    images = jnp.clip(images.astype(jnp.float32), -1, 1)
    down, right = jnp.diff(images, axis=1), jnp.diff(images, axis=2)
    return jnp.square(down).mean((1, 2, 3)) + jnp.square(right).mean((1, 2, 3))


def sharpness(
    draw: Callable[[Any, Batch], Images],
    examples: int | None = None,
    real: str = "image",
    **evaluator: Any,
) -> Evaluator:
    """Evaluator of samples: "gradient_energy", the mean over them. Its floor is that of the data.

    draw: a sampler's function, (nets, batch) -> images in [-1, 1].
    examples: how many samples are drawn; None is as many as the data has.
    real: the batch's name of the images that the samples should be as sharp as.
    evaluator: further arguments of `Evaluator`.
    """

    def rows(nets: Any, batch: Batch) -> dict[str, Array]:
        return {
            "found": gradient_energy(draw(nets, batch)),
            "floor": gradient_energy(batch[real]),
        }

    def score(found: Any) -> dict[str, float]:
        return {"gradient_energy": float(found.mean())}

    return Evaluator(
        rows,
        lambda found, workdir: score(found["found"]),
        examples,
        says=lambda found, workdir: {
            "samples": len(found["found"]),
            "range": "[-1, 1]",
            "floor": score(found["floor"]),
            "floor_of": f"{len(found['floor'])} images of the data",
        },
        **evaluator,
    )
