"""What experiments whose networks learn variances share: settings, the process, samples, scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from genax.core import Loss
from genax.diffusion.likelihood import variational_bound
from genax.diffusion.predictions import Prediction
from genax.diffusion.process import DiscreteProcess, learned_range
from genax.diffusion.respacing import in_sections
from genax.diffusion.sampling import Solver
from genax.diffusion.schedules import SCHEDULES
from genax.diffusion.solvers import ancestral
from genax.diffusion.tasks import CIFAR10
from genax.diffusion.tasks import DEFAULTS as SHARED
from genax.diffusion.tasks import RANGES as SHARED_RANGES
from genax.settings.ranges import COUNT, Range, Ranges

DEFAULTS: dict[str, Any] = SHARED | {
    "schedule": "cosine",
    "num_timesteps": 1_000,
    # The evenly spaced timesteps of the chain that samples are drawn by.
    "sampling_steps": 100,
    # The values that a pixel can have, and the timesteps at which each test image is scored.
    "num_levels": 256,
    "eval_draws": 10,
}
# Training on CIFAR-10 as in the code of Nichol & Dhariwal 2021.
LONG_RUN: dict[str, Any] = CIFAR10 | {
    "learning_rate": 1e-4,
    "warmup_steps": 0,
    "gradient_clip": 0.0,
    "sampling_steps": 250,
    "steps": 500_000,
}
# The same on ImageNet, whose images are not mirrored.
IMAGENET: dict[str, Any] = LONG_RUN | {"test_split": "validation", "flip": False}
RANGES: Ranges = {
    **SHARED_RANGES,
    "schedule": tuple(SCHEDULES),
    "num_timesteps": Range(least=2, most=100_000, whole=True),
    "sampling_steps": COUNT,
    "num_levels": Range(least=2),
    "eval_draws": COUNT,
}


def chain(config: ConfigDict) -> DiscreteProcess:
    """Return the process of the settings."""
    return DiscreteProcess(SCHEDULES[config.schedule](config.num_timesteps))


def solvers(config: ConfigDict, process: DiscreteProcess) -> Mapping[str, Solver]:
    """Return the reverse chain with learned variances, in the steps of the settings.

    Raises GenaxError for more steps than the process has.
    """
    steps = in_sections(config.num_timesteps, [config.sampling_steps])
    return {"images": ancestral(process, learned_range, steps)}


def bound(
    config: ConfigDict, process: DiscreteProcess, prediction: Prediction
) -> Callable[..., Loss]:
    """Return the score of the variational bound with learned variances."""
    return partial(
        variational_bound,
        process=process,
        prediction=prediction,
        num_draws=config.eval_draws,
        num_levels=config.num_levels,
        variance=learned_range,
    )
