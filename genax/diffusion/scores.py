"""Score models: networks whose output is the gradient of the log density, or close to it.

The score of noisy = signal * clean + sigma * noise, given the clean image, is -noise / sigma.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from genax.core import Loss
from genax.core.task import Batch
from genax.diffusion.predictions import EPSILON, Prediction, negated
from genax.diffusion.weightings import Weighting

# Published score models have images with values from 0 to 1. In images with values from -1 to 1
# all lengths are twice as long.
UNIT = 2.0


def scaled_score(unit: float = UNIT) -> Prediction:
    """Prediction of the score times sigma, from log(sigma): NCSN++ of Song et al. 2021 (VE SDE).

    The published network divides its last layer's output by sigma to give the score
    (`scale_by_sigma`). Its error is then multiplied by sigma, so both factors are left out here.

    unit: the network gets log(sigma / unit).
    """
    return replace(
        negated(EPSILON),
        inputs=lambda noisy, times, signal, sigma: (
            noisy,
            jnp.log(sigma / unit).reshape(times.shape),
        ),
    )


def score(unit: float = UNIT) -> Prediction:
    """Prediction of the score of images that are divided by `unit`."""
    return Prediction(
        target=lambda clean, noise, signal, sigma: -unit * noise / sigma,
        clean=lambda output, noisy, signal, sigma: (
            (noisy + jnp.square(sigma) / unit * output) / signal
        ),
    )


def ncsn_score(num_levels: int, unit: float = UNIT) -> Prediction:
    """Prediction of NCSN: the score, from the number of the level (Song & Ermon 2019).

    The network numbers the levels of `NoiseLevels` from the one with the most noise on. The paper's
    loss is `by_sigma(2.0)` of the output's error, with sigma in the network's unit.

    unit: see `score`.
    """
    return replace(
        score(unit),
        inputs=lambda noisy, times, signal, sigma: (noisy, num_levels - 1 - times),
    )


def by_sigma(power: float, factor: float = 1.0) -> Weighting:
    """Weighting of the output's error by factor * sigma^power (Song & Ermon 2019, eq. 6).

    factor: such as the one that turns sigma into another unit.
    """
    return lambda prediction, signal, sigma: factor * sigma**power


def half_sum(loss: Callable[..., Loss]) -> Callable[..., Loss]:
    """Loss of half the sum over the image's values, in place of the mean.

    Published code has it for some models. It matters to a bound of the gradient's norm, and not to
    Adam.

    loss: (nets, batch, **arguments), such as `denoising_loss` with its process.
    """

    def halved(nets: nn.Module, batch: Batch, **arguments: Any) -> Loss:
        found = loss(nets, batch, **arguments)
        return replace(found, values=batch["image"][0].size / 2 * found.values)

    return halved
