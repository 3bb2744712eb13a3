"""What the schedulers of diffusers have in common: processes, predictions, clipping and times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import jax.numpy as jnp
import numpy as np

from genax.core.errors import GenaxError
from genax.diffusion.clipping import Clip, dynamic_threshold
from genax.diffusion.predictions import CLEAN, EPSILON, Prediction, V, with_variance
from genax.diffusion.process import DiscreteProcess
from genax.diffusion.schedules import (
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
    sigmoid_betas,
    zero_terminal_snr,
)
from genax.diffusion.spacings import exponential, karras, leading, linspace, trailing
from genax.interop.configuration import Configuration

Option = TypeVar("Option")
# Number of steps -> falling times of the process.
Times = Callable[[int], np.ndarray]

PREDICTIONS = {"epsilon": EPSILON, "sample": CLEAN, "v_prediction": V}


def choose(
    settings: Configuration, name: str, default: str, options: Mapping[str, Option]
) -> Option:
    """Return the option that a setting names.

    Raises GenaxError for another name.
    """
    found = settings.get(name, default)
    if found not in options:
        raise GenaxError(
            f"{settings.source} has {name}={found!r}; the known ones are {', '.join(options)}."
        )
    return options[found]


def ignore(settings: Configuration, *names: str) -> None:
    """Mark settings as read that do not matter to what genax computes."""
    for name in names:
        settings.get(name)


def number(settings: Configuration, name: str, default: float, above: bool = True) -> float:
    """Return a number that is above 0, or from 0 on."""
    return settings.real(name, default, most=1e9, above=above)


def read_process(
    settings: Configuration,
    start: float = 1e-4,
    end: float = 0.02,
    interpolation: str = "log",
    divides: bool = True,
) -> DiscreteProcess:
    """Return the process of a schedule of betas.

    start, end: the class's defaults for linear betas.
    divides: whether the solver divides by the signal of the first time, so that it may not be 0.
      diffusers then takes a bit, more than at the timestep before.
    Raises GenaxError for a schedule that is not known, and as `DiscreteProcess`.
    """
    count = settings.size("num_train_timesteps", 1000)
    ends = number(settings, "beta_start", start), number(settings, "beta_end", end)
    schedules: dict[str, Callable[[], np.ndarray]] = {
        "linear": lambda: linear_betas(count, *ends),
        "scaled_linear": lambda: scaled_linear_betas(count, *ends),
        "squaredcos_cap_v2": lambda: cosine_betas(count),
        "sigmoid": lambda: sigmoid_betas(count, *ends),
    }
    given = settings.get("trained_betas", [])
    if given and (len(given) != count or not all(isinstance(beta, float | int) for beta in given)):
        raise GenaxError(
            f"{settings.source} has trained_betas={given!r}; it is a list of num_train_timesteps="
            f"{count} numbers."
        )
    schedule = choose(settings, "beta_schedule", "linear", schedules)
    betas = np.array(given, np.float64) if given else schedule()
    if divides:
        settings.require(rescale_betas_zero_snr=False)
    elif settings.get("rescale_betas_zero_snr", False):
        betas = zero_terminal_snr(betas)
    return DiscreteProcess(betas, interpolation)


def read_prediction(settings: Configuration) -> Prediction:
    """Return the prediction, of a network that also learns variances if the settings say so."""
    prediction = choose(settings, "prediction_type", "epsilon", PREDICTIONS)
    learns = settings.get("variance_type") in ("learned", "learned_range")
    return with_variance(prediction) if learns else prediction


def read_clip(settings: Configuration, clips: bool) -> bool | Clip:
    """Return how predicted clean images are clipped.

    clips: the class's default of clip_sample.
    """
    quantile = settings.real("dynamic_thresholding_ratio", 0.995)
    largest = settings.real("sample_max_value", 1.0, least=1.0, most=1e9)
    bound = number(settings, "clip_sample_range", 1.0)
    clip = settings.get("clip_sample", clips)
    if settings.get("thresholding", False):
        return dynamic_threshold(quantile, largest)
    if not clip or bound == 1.0:
        return clip
    return lambda clean: clean.clip(-bound, bound)


def to_the_end(settings: Configuration, last: float | int) -> float | int | None:
    """Return the time at which the last step ends: `last`, or None for the data."""
    return choose(settings, "final_sigmas_type", "zero", {"zero": None, "sigma_min": last})


def whole_times(settings: Configuration, process: DiscreteProcess, linear: bool) -> Times:
    """Return the spacing of whole timesteps, the first of which may be below T - 1.

    linear: whether the class has linspace, in a way that its steps reach the next timestep.
    """
    count, offset = process.num_timesteps, settings.size("steps_offset", 0, least=0)
    options: dict[str, Times] = {
        "leading": lambda num_steps: leading(count, num_steps, offset),
        "trailing": lambda num_steps: trailing(count, num_steps),
    }
    if linear:
        options["linspace"] = lambda num_steps: linspace(count, num_steps)
    return choose(settings, "timestep_spacing", "leading", options)


def fractional_times(settings: Configuration, process: DiscreteProcess) -> Times:
    """Return the spacing of solvers in sigma / signal: fractional timesteps.

    diffusers interpolates sigma / signal linearly between timesteps. A process that interpolates
    otherwise has another fraction with the same value.
    """
    count, offset = process.num_timesteps, settings.size("steps_offset", 0, least=0)
    options: dict[str, Times] = {
        "linspace": lambda num_steps: linspace(count, num_steps, whole=False),
        "leading": lambda num_steps: leading(count, num_steps, offset).astype(float),
        "trailing": lambda num_steps: trailing(count, num_steps).astype(float),
    }
    spacing = choose(settings, "timestep_spacing", "linspace", options)
    settings.require(use_beta_sigmas=False)
    of_sigmas = _spacing_of_sigmas(
        settings, {"use_karras_sigmas": karras, "use_exponential_sigmas": exponential}
    )

    def times(num_steps: int) -> np.ndarray:
        timesteps = spacing(num_steps)
        if of_sigmas is None and process.interpolation == "linear":
            return timesteps
        ratios = np.interp(timesteps, np.arange(count), process.ratios)
        if of_sigmas is not None:
            ratios = of_sigmas(num_steps, ratios[-1], ratios[0])
        return time_of(process, ratios)

    return times


def inner_times(settings: Configuration, process: DiscreteProcess, spacings: bool = True) -> Times:
    """Return the spacing of the DPM-Solver family.

    Its timesteps are those of one step more without the last one, which is the end. A spacing of
    sigmas has fractional timesteps, which diffusers rounds for the network, see `rounded`.

    spacings: whether the class has timestep_spacing, and otherwise it has linspace.
    Raises GenaxError for a spacing that is not supported.
    """
    count = process.num_timesteps
    least = settings.get("lambda_min_clipped", float("-inf"))
    ratios = process.ratios
    last = count - int(np.searchsorted(-np.log(ratios)[::-1], least))
    settings.require(
        use_exponential_sigmas=False,
        use_beta_sigmas=False,
        use_flow_sigmas=False,
        use_dynamic_shifting=False,
    )
    ignore(settings, "flow_shift", "time_shift_type")
    of_sigmas = _spacing_of_sigmas(
        settings, {"use_karras_sigmas": karras, "use_lu_lambdas": exponential}
    )
    options: dict[str, Times] = {
        "linspace": lambda num_steps: (
            np.linspace(0, last - 1, num_steps + 1).round()[:0:-1].astype(int)
        )
    }
    if spacings:
        offset = settings.size("steps_offset", 0, least=0)
        options["leading"] = lambda num_steps: (
            np.arange(num_steps, 0, -1) * (last // (num_steps + 1)) + offset
        )
        options["trailing"] = lambda num_steps: (
            np.arange(last, 0, -count / num_steps).round().astype(int) - 1
        )
    spacing = choose(settings, "timestep_spacing", "linspace", options)

    def timesteps(num_steps: int) -> np.ndarray:
        if not 1 <= num_steps < last:
            raise GenaxError(
                f"{settings.source} has {last} timesteps for {num_steps} steps and their end; "
                f"choose from 1 to {last - 1} steps."
            )
        return spacing(num_steps)

    if of_sigmas is None:
        return timesteps
    if settings.get("beta_schedule") == "squaredcos_cap_v2":
        raise GenaxError(
            f"{settings.source} has use_karras_sigmas or use_lu_lambdas with "
            "beta_schedule='squaredcos_cap_v2', which is not supported: diffusers cuts fractions "
            "of timesteps off then. Leave it out."
        )
    return lambda num_steps: time_of(process, of_sigmas(num_steps, ratios[0], ratios[-1]))


def rounded(prediction: Prediction) -> Prediction:
    """Return the prediction of a network that gets fractional timesteps rounded."""
    return replace(prediction, inputs=lambda noisy, times, signal, sigma: (noisy, jnp.round(times)))


def time_of(process: DiscreteProcess, ratios: np.ndarray) -> np.ndarray:
    """Return the fractional timesteps of values of sigma / signal: float64.

    Rounding makes the ends those of the table.
    """
    table = np.log(process.ratios)
    return np.interp(np.log(ratios), table, np.arange(process.num_timesteps)).round(9)


def _spacing_of_sigmas(
    settings: Configuration, spacings: Mapping[str, Callable[..., np.ndarray]]
) -> Callable[..., np.ndarray] | None:
    """Return the spacing of sigmas that the settings choose, or None.

    spacings: name of a setting -> (number of steps, smallest, largest) -> sigmas.
    Raises GenaxError for more than one.
    """
    chosen = [name for name in spacings if settings.get(name, False)]
    if len(chosen) > 1:
        raise GenaxError(f"{settings.source} has {' and '.join(chosen)}; choose one.")
    return spacings[chosen[0]] if chosen else None
