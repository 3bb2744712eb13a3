"""What experiments whose networks learn variances share: settings, the process, samples, scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from genax.core import Experiment, Loss
from genax.diffusion.losses import denoising_loss
from genax.diffusion.predictions import EPSILON_AND_VARIANCE, Prediction
from genax.diffusion.process import DiscreteProcess, learned_range
from genax.diffusion.respacing import in_sections
from genax.diffusion.schedules import SCHEDULES
from genax.diffusion.settings import CHAIN, CIFAR10
from genax.diffusion.settings import DEFAULTS as SHARED
from genax.diffusion.settings import RANGES as SHARED_RANGES
from genax.diffusion.solvers import ancestral
from genax.diffusion.tasks import MakeNetwork, chain_bound, image_experiment
from genax.settings.ranges import Range, Ranges

DEFAULTS: dict[str, Any] = {
    **(SHARED | CHAIN),
    "schedule": "cosine",
    # The evenly spaced timesteps of the chain that samples are drawn by.
    "sampling_steps": 100,
}
# Training on CIFAR-10 as in the code of Nichol & Dhariwal 2021, which mirrors no images.
LONG_RUN: dict[str, Any] = CIFAR10 | {
    "learning_rate": 1e-4,
    "warmup_steps": 0,
    "gradient_clip": 0.0,
    "flip": False,
    "sampling_steps": 250,
    "steps": 500_000,
}
# The same on ImageNet, whose first images are scored, and whose samples are few and large.
IMAGENET: dict[str, Any] = LONG_RUN | {
    "test_split": "validation",
    "num_samples": 16,
    "eval_batch_size": 64,
    "eval_examples": 256,
}
# A chain of one timestep has no term of the variational bound to draw.
NUM_TIMESTEPS = Range(least=2, most=100_000, whole=True)
RANGES: Ranges = {
    **SHARED_RANGES,
    "schedule": tuple(SCHEDULES),
    "num_timesteps": NUM_TIMESTEPS,
}


def chain(config: ConfigDict) -> DiscreteProcess:
    """Return the process of the settings."""
    return DiscreteProcess(SCHEDULES[config.schedule](config.num_timesteps))


def learned_experiment(
    config: ConfigDict,
    data: Any,
    network: MakeNetwork,
    loss: Callable[..., Loss],
    prediction: Prediction = EPSILON_AND_VARIANCE,
    changed: Callable[[Callable[..., Loss]], Callable[..., Loss]] = lambda loss: loss,
    sampling: Mapping[str, Any] | None = None,
    said: Mapping[str, Any] = MappingProxyType({}),
) -> Experiment:
    """Return the experiment of a denoiser that learns variances.

    Samples are drawn by the chain in the steps of the settings. Scores are the variational bound
    and the squared error of the network's output.

    data, network, sampling: see `image_experiment`.
    loss: (nets, batch, process=, prediction=, num_levels=, condition=) -> Loss.
    changed: makes the loss and the scores from those without change.
    said: what a result says of guidance that is not the settings'.
    Raises GenaxError as `image_experiment` does, and for more steps than the process has.
    """
    process = chain(config)
    steps = in_sections(config.num_timesteps, [config.sampling_steps])
    common: dict[str, Any] = {"process": process, "prediction": prediction}
    bound = partial(chain_bound(config, process), prediction=prediction, variance=learned_range)
    error = partial(denoising_loss, **common, train=False)
    return image_experiment(
        config,
        data,
        network=network,
        loss=changed(partial(loss, **common, num_levels=config.num_levels)),
        solvers={"images": ancestral(process, learned_range, steps)},
        scores={"bits_per_dim": changed(bound), "output_mse": changed(error)},
        sampling=sampling,
        said={"images": {"solver": "ancestral", "steps": config.sampling_steps, **said}},
        **common,
    )
