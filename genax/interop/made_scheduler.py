"""The scheduler of diffusers for a process and a prediction."""

from __future__ import annotations

from typing import Any

from genax.core.errors import GenaxError
from genax.diffusion.linear_flow import LinearFlow
from genax.diffusion.predictions import EPSILON, VELOCITY, Prediction
from genax.diffusion.process import DiscreteProcess, Process
from genax.interop.scheduler_parts import PREDICTIONS
from genax.interop.schedulers import Scheduler, load_scheduler


def make_scheduler(
    process: Process, prediction: Prediction = EPSILON, kind: str = "", **settings: Any
) -> Scheduler:
    """Return the scheduler that stands for a process and what its network predicts.

    `scheduler_config` returns its settings, which diffusers reads: betas as a list, and the type of
    the prediction.

    process: a `DiscreteProcess` of all its timesteps, or a `LinearFlow`, whose network in diffusers
      gets a thousand times the time.
    prediction: EPSILON, CLEAN or V, also with variance, and VELOCITY of a flow.
    kind: name of the class; "" means DDPMScheduler or FlowMatchEulerDiscreteScheduler.
    settings: further ones of the class, such as clip_sample.
    Raises GenaxError for other processes and predictions, and as `load_scheduler`.
    """
    if isinstance(process, DiscreteProcess) and process.numbers is None:
        kind = kind or "DDPMScheduler"
        settings |= {
            "num_train_timesteps": process.num_timesteps,
            "trained_betas": process.betas.tolist(),
            "prediction_type": _type_of(prediction),
        }
        if prediction.learns_variance:
            settings["variance_type"] = "learned_range"
    elif isinstance(process, LinearFlow) and prediction.target is VELOCITY.target:
        kind = kind or "FlowMatchEulerDiscreteScheduler"
        settings["shift"] = process.shift
    else:
        raise GenaxError(
            f"no scheduler of diffusers is written for a {type(process).__name__} and this "
            "prediction; there are those of a DiscreteProcess that is not respaced, and of a "
            "LinearFlow with VELOCITY."
        )
    return load_scheduler({"_class_name": kind, **settings})


def _type_of(prediction: Prediction) -> str:
    for name, known in PREDICTIONS.items():
        if known.target is prediction.target and known.inputs is prediction.inputs:
            return name
    raise GenaxError(
        f"no prediction of diffusers is this one; those of a chain are {', '.join(PREDICTIONS)}, "
        "whose networks get the images and the timesteps as they are."
    )
