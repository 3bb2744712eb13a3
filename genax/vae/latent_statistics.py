"""Mean and deviation of the latents of a data set, and the factor that scales them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from genax.core.task import Batch, Evaluator
from genax.vae.distributions import Gaussian


def latent_statistics(
    encode: Callable[[Any, Batch], Gaussian], data: Any, examples: int | None = None
) -> Evaluator:
    """Evaluator of an encoder: "mean", "deviation" and "scale_factor" = 1 / deviation.

    They are those of all numbers of latents that are drawn from the posteriors of a data set:
    deviation^2 = E (mean^2 + variance) - (E mean)^2. Latent diffusion multiplies latents by the
    factor, so that noise of one schedule suits them (Rombach et al. 2022, arXiv:2112.10752,
    appendix D.1, where it is measured on the first batch).

    encode: (nets, batch) -> the posteriors of the batch's images.
    data: the training data.
    examples: how many of its first images are read; None is all.
    """

    def rows(nets: Any, batch: Batch) -> dict[str, Array]:
        posterior = encode(nets, batch)
        axes = tuple(range(1, posterior.mean.ndim))
        squares = jnp.square(posterior.mean) + jnp.exp(posterior.log_variance)
        return {"mean": posterior.mean.mean(axes), "square": squares.mean(axes)}

    def summarize(found: Any, workdir: Any) -> dict[str, float]:
        mean, square = (np.asarray(found[name], np.float64).mean() for name in ("mean", "square"))
        deviation = float(np.sqrt(square - mean**2))
        factor = 1 / deviation if deviation else float("inf")
        return {"mean": float(mean), "deviation": deviation, "scale_factor": factor}

    def says(found: Any, workdir: Any) -> dict[str, Any]:
        return {"images": len(found["mean"]), "latents": "drawn from the posteriors"}

    return Evaluator(rows, summarize, examples, data, says=says)
