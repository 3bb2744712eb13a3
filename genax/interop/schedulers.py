"""Schedulers of diffusers: the process, prediction, times and solver of a scheduler_config.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from genax.core.errors import GenaxError
from genax.diffusion.clipping import Clip
from genax.diffusion.linear_flow import LinearFlow, shifted
from genax.diffusion.preconditioning import preconditioned
from genax.diffusion.predictions import (
    CONTINUOUS_EPSILON,
    EPSILON,
    VELOCITY,
    Prediction,
    negated,
    scaled_times,
)
from genax.diffusion.process import Process, fixed_large, fixed_small, learned_range
from genax.diffusion.sampling import Solver
from genax.diffusion.scores import score
from genax.diffusion.solvers import (
    Churn,
    ancestral,
    ddim,
    ddim_inversion,
    dpm_solver,
    dpm_solver_sde,
    dpm_solver_singlestep,
    euler,
    euler_ancestral,
    flow_heun,
    heun,
    lms,
    pndm,
    sa_solver,
    uni_pc,
)
from genax.diffusion.solvers.predictor_corrector import euler_maruyama, predictor_corrector
from genax.diffusion.solvers.sa_solver import middle
from genax.diffusion.spacings import exponential, flow, karras
from genax.diffusion.variance_exploding import GeometricExploding, VarianceExploding
from genax.diffusion.variance_preserving import VariancePreserving
from genax.interop.configuration import Configuration
from genax.interop.scheduler_parts import (
    Times,
    choose,
    fractional_times,
    ignore,
    inner_times,
    number,
    read_clip,
    read_prediction,
    read_process,
    rounded,
    to_the_end,
    whole_times,
)
from genax.settings.files import read_json

SCHEDULER = "scheduler_config.json"
ALGORITHMS = {
    "dpmsolver++": {},
    "sde-dpmsolver++": {"stochastic": True},
    "dpmsolver": {"of_noise": True},
    "sde-dpmsolver": {"stochastic": True, "of_noise": True},
}


@dataclass(frozen=True)
class Scheduler:
    """What a scheduler of diffusers stands for.

    `sample(nets, batch, scheduler.solver(50), scheduler.process, shape, scheduler.prediction,
    scheduler.clip)` draws samples. They begin with the noise of `process.prior`; pipelines of
    diffusers begin with sigma or sqrt(1 + sigma^2) times noise, which is the same but for the data.

    process: the process that the network was trained on.
    prediction: what the network gets, and what its output means.
    times: number of steps -> falling times of the process.
    make: falling times -> the solver.
    clip: how predicted clean images are clipped, see `sample`.
    settings: the settings of the file, with the name of the class.
    """

    process: Process
    prediction: Prediction
    times: Times
    make: Callable[[np.ndarray], Solver]
    clip: bool | Clip = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def solver(self, num_steps: int) -> Solver:
        """Return the solver with so many steps, as `set_timesteps` of diffusers counts them."""
        return self.make(self.times(num_steps))


def load_scheduler(source: str | Path | Mapping[str, Any], kind: str | None = None) -> Scheduler:
    """Return the scheduler of a directory with scheduler_config.json, or of its settings.

    Arguments of the scheduler's step, such as eta and churn, have their defaults. Stochastic
    solvers draw fresh noise for every step.

    kind: name of the class. None means that of the settings.
    Raises GenaxError for a class or a setting that is not supported and may change the result.
    """
    if isinstance(source, Mapping):
        values, name = dict(source), "the scheduler's configuration"
    else:
        path = Path(source) / SCHEDULER
        if not path.is_file():
            raise GenaxError(f"{path} is missing; give the directory that holds it.")
        values, name = read_json(path), str(path)
    kind = kind or values.get("_class_name")
    if kind not in SCHEDULERS:
        raise GenaxError(
            f"{name} has _class_name={kind!r}; the known ones are {', '.join(SCHEDULERS)}."
        )
    settings = Configuration(values, f"{name} of {kind}")
    scheduler = SCHEDULERS[kind](settings)
    settings.done()
    kept = {key: value for key, value in values.items() if not key.startswith("_")}
    return replace(scheduler, settings={"_class_name": kind, **kept})


def scheduler_config(scheduler: Scheduler) -> dict[str, Any]:
    """Return the settings of a scheduler_config.json, under the names of diffusers."""
    return dict(scheduler.settings)


def _chain(
    settings: Configuration,
    solver: Callable[..., Solver],
    linear: bool = False,
    divides: bool = False,
    clips: bool = True,
) -> Scheduler:
    """Return a solver at whole timesteps.

    solver: (process, times) -> the solver.
    linear: see `whole_times`.
    divides: see `read_process`.
    clips: whether the class has clip_sample, which then is true by default.
    """
    process = read_process(settings, divides=divides)
    return Scheduler(
        process,
        read_prediction(settings),
        whole_times(settings, process, linear),
        partial(solver, process),
        read_clip(settings, clips=True) if clips else False,
    )


def _ddpm(settings: Configuration) -> Scheduler:
    variances = {
        "fixed_small": fixed_small,
        "fixed_small_log": fixed_small,
        "fixed_large": fixed_large,
        "learned_range": learned_range,
    }
    variance = choose(settings, "variance_type", "fixed_small", variances)
    return _chain(settings, lambda process, times: ancestral(process, variance, times), linear=True)


def _ddim(settings: Configuration) -> Scheduler:
    """Return DDIM's solver.

    diffusers steps T // num_steps back, which for linspace is not the next timestep. With clipping,
    the predicted noise is that of the clipped image (use_clipped_model_output).
    """
    end = None if settings.get("set_alpha_to_one", True) else 0
    return _chain(settings, partial(ddim, end=end))


def _ddim_inverse(settings: Configuration) -> Scheduler:
    if settings.get("clip_sample", True):
        raise GenaxError(
            f"{settings.source} has clip_sample=True, its default, but noise in clean images "
            "cannot be told after clipping; set clip_sample to false."
        )
    ignore(settings, "clip_sample_range")
    # Other outputs are taken at the level of the step's beginning there.
    settings.require(prediction_type="epsilon")
    end = None if settings.get("set_alpha_to_one", True) else 0
    return _chain(settings, partial(ddim_inversion, end=end), clips=False)


def _pndm(settings: Configuration) -> Scheduler:
    skip = settings.get("skip_prk_steps", False)
    end = None if settings.get("set_alpha_to_one", False) else 0
    solver = partial(pndm, skip_prk_steps=skip, end=end)
    return _chain(settings, solver, divides=True, clips=False)


def _of_sigma(
    solver: Callable[..., Solver],
    settings: Configuration,
    start: float = 1e-4,
    end: float = 0.02,
    clips: bool = False,
    divides: bool = True,
) -> Scheduler:
    """Return a solver in sigma / signal, at fractional timesteps."""
    sigmas = settings.get("use_karras_sigmas", False) or settings.get(
        "use_exponential_sigmas", False
    )
    settings.require(interpolation_type="linear", timestep_type="discrete")
    interpolation = "log" if sigmas else "linear"
    process = read_process(settings, start, end, interpolation, divides)
    stop = to_the_end(settings, 0.0)
    return Scheduler(
        process,
        read_prediction(settings),
        fractional_times(settings, process),
        partial(solver, process, end=stop),
        read_clip(settings, clips=False) if clips else False,
    )


def _dpm_sde(settings: Configuration) -> Scheduler:
    ignore(settings, "noise_sampler_seed")
    # The times in the middle of steps are those of ln(sigma / signal).
    process = read_process(settings, 0.00085, 0.012, interpolation="log")
    return Scheduler(
        process,
        read_prediction(settings),
        fractional_times(settings, process),
        partial(dpm_solver_sde, process),
    )


def _dpm_family(
    settings: Configuration, solver: Callable[..., Solver], spacings: bool = True
) -> Scheduler:
    """Return a solver of the DPM-Solver family.

    solver: (process, times) -> the solver.
    spacings: see `inner_times`.
    """
    process = read_process(settings)
    return Scheduler(
        process,
        rounded(read_prediction(settings)),
        inner_times(settings, process, spacings),
        partial(solver, process),
        read_clip(settings, clips=False),
    )


def _dpm_settings(settings: Configuration, single: bool = False) -> dict[str, Any]:
    algorithm = choose(settings, "algorithm_type", "dpmsolver++", ALGORITHMS)
    order = settings.size("solver_order", 2, most=3)
    heun = choose(settings, "solver_type", "midpoint", {"midpoint": False, "heun": True})
    if order == 3 and algorithm.get("stochastic") and (heun or not single):
        raise GenaxError(
            f"{settings.source} has solver_order=3 for a stochastic algorithm, whose last term has "
            "another sign in diffusers than in its sources; take order 2."
        )
    return {"order": order, "heun": heun, **algorithm}


def _multistep_settings(settings: Configuration) -> dict[str, Any]:
    return _dpm_settings(settings) | {
        "lower_order_final": settings.get("lower_order_final", True),
        "euler_at_final": settings.get("euler_at_final", False),
    }


def _dpm_multistep(settings: Configuration) -> Scheduler:
    end = to_the_end(settings, 0)
    return _dpm_family(settings, partial(dpm_solver, **_multistep_settings(settings), end=end))


def _dpm_singlestep(settings: Configuration) -> Scheduler:
    chosen = _dpm_settings(settings, single=True)
    lower = settings.get("lower_order_final", False)
    end = to_the_end(settings, 0)

    def solver(process: Process, times: np.ndarray) -> Solver:
        forced = end is None or len(times) % chosen["order"] > 0
        return dpm_solver_singlestep(
            process, times, **chosen, lower_order_final=lower or forced, end=end
        )

    return _dpm_family(settings, solver, spacings=False)


def _uni_pc(settings: Configuration) -> Scheduler:
    of_noise = not settings.get("predict_x0", True)
    solver = partial(
        uni_pc,
        order=settings.size("solver_order", 2, most=3),
        quick=choose(settings, "solver_type", "bh2", {"bh2": True, "bh1": False}),
        of_noise=of_noise,
        lower_order_final=settings.get("lower_order_final", True),
        uncorrected=settings.get("disable_corrector", []),
        end=to_the_end(settings, 0),
    )
    scheduler = _dpm_family(settings, solver)
    if of_noise and scheduler.clip:
        raise GenaxError(
            f"{settings.source} has thresholding with predict_x0=False, for which diffusers has "
            "none; leave one of them out."
        )
    return scheduler


def _sa_solver(settings: Configuration) -> Scheduler:
    algorithms = {"data_prediction": False, "noise_prediction": True}
    solver = partial(
        sa_solver,
        predictor_order=settings.size("predictor_order", 2, most=4),
        corrector_order=settings.size("corrector_order", 2, most=4),
        stochasticity=lambda time: middle(round(time)),
        of_noise=choose(settings, "algorithm_type", "data_prediction", algorithms),
        lower_order_final=settings.get("lower_order_final", True),
        end=0,
    )
    return _dpm_family(settings, solver)


def _edm(settings: Configuration, multistep: bool = False) -> Scheduler:
    ends = number(settings, "sigma_min", 0.002), number(settings, "sigma_max", 80.0)
    rho = number(settings, "rho", 7.0)
    spacings: dict[str, Times] = {
        "karras": lambda num_steps: karras(num_steps, *ends, rho),
        "exponential": lambda num_steps: exponential(num_steps, *ends),
    }
    ignore(settings, "num_train_timesteps")
    prediction = preconditioned(number(settings, "sigma_data", 0.5))
    options = {"epsilon": prediction, "v_prediction": negated(prediction)}
    to_data = to_the_end(settings, 0) is None
    chosen: dict[str, Any] = {"order": 1}
    if multistep:
        of_clean = {name: ALGORITHMS[name] for name in ("dpmsolver++", "sde-dpmsolver++")}
        choose(settings, "algorithm_type", "dpmsolver++", of_clean)
        chosen = _multistep_settings(settings)
    process = VarianceExploding()
    return Scheduler(
        process,
        choose(settings, "prediction_type", "epsilon", options),
        choose(settings, "sigma_schedule", "karras", spacings),
        lambda times: dpm_solver(process, times, **chosen, end=None if to_data else times[-1]),
        read_clip(settings, clips=False) if multistep else False,
    )


def _flow(solver: Callable[..., Solver], settings: Configuration) -> Scheduler:
    count = settings.size("num_train_timesteps", 1000)
    shift = number(settings, "shift", 1.0)
    # All of these matter to other settings only, which are refused.
    ignore(settings, "base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len")
    ignore(settings, "time_shift_type")
    process = LinearFlow(shift=shift)
    # The scheduler shifts its table, and then the steps between the ends of the table.
    smallest = shifted(1 / count, shift)
    return Scheduler(
        process,
        replace(VELOCITY, inputs=scaled_times(float(count))),
        lambda num_steps: flow(num_steps, shift, smallest),
        partial(solver, process),
    )


def _score_ve(settings: Configuration) -> Scheduler:
    """Return the predictor-corrector solver, whose network gets sigma and predicts the score.

    Its steps go through sigmas whose times are 1 to 0, although it names those to sampling_eps.
    """
    ignore(settings, "num_train_timesteps", "sampling_eps")
    process = GeometricExploding(
        number(settings, "sigma_min", 0.01), number(settings, "sigma_max", 1348.0)
    )
    snr = number(settings, "snr", 0.15)
    corrections = settings.size("correct_steps", 1, least=0)
    return Scheduler(
        process,
        replace(
            score(unit=1.0),
            inputs=lambda noisy, times, signal, sigma: (noisy, sigma.reshape(times.shape)),
        ),
        lambda num_steps: np.linspace(1.0, 0.0, num_steps),
        partial(predictor_corrector, process, snr=snr, corrections=corrections),
    )


def _score_vp(settings: Configuration) -> Scheduler:
    ignore(settings, "num_train_timesteps")
    process = VariancePreserving(
        number(settings, "beta_min", 0.1, above=False), number(settings, "beta_max", 20.0)
    )
    smallest = settings.real("sampling_eps", 1e-3, above=True)
    return Scheduler(
        process,
        CONTINUOUS_EPSILON,
        lambda num_steps: np.linspace(1.0, smallest, num_steps),
        partial(predictor_corrector, process, predictor=euler_maruyama, corrections=0),
    )


def _karras_ve(settings: Configuration) -> Scheduler:
    """Return Heun's solver, whose levels are squares of sigma.

    The network predicts the negative of the noise.
    """
    ends = number(settings, "sigma_min", 0.02), number(settings, "sigma_max", 100.0)
    churn = Churn(
        number(settings, "s_churn", 80.0, above=False),
        number(settings, "s_min", 0.05, above=False),
        number(settings, "s_max", 50.0),
        number(settings, "s_noise", 1.007, above=False),
    )
    process = VarianceExploding()
    return Scheduler(
        process,
        negated(EPSILON),
        lambda num_steps: exponential(num_steps, ends[0] ** 2, ends[1] ** 2),
        partial(heun, process, churn=churn),
    )


# Names of classes -> (settings) -> what they stand for. A class joins with one row.
SCHEDULERS: dict[str, Callable[[Configuration], Scheduler]] = {
    "DDPMScheduler": _ddpm,
    "DDIMScheduler": _ddim,
    "DDIMInverseScheduler": _ddim_inverse,
    "PNDMScheduler": _pndm,
    "DPMSolverMultistepScheduler": _dpm_multistep,
    "DPMSolverSinglestepScheduler": _dpm_singlestep,
    "DPMSolverSDEScheduler": _dpm_sde,
    "UniPCMultistepScheduler": _uni_pc,
    "SASolverScheduler": _sa_solver,
    "EulerDiscreteScheduler": partial(_of_sigma, euler, divides=False),
    "EulerAncestralDiscreteScheduler": partial(_of_sigma, euler_ancestral, divides=False),
    "HeunDiscreteScheduler": partial(_of_sigma, heun, start=0.00085, end=0.012, clips=True),
    "LMSDiscreteScheduler": partial(_of_sigma, lms),
    "EDMEulerScheduler": _edm,
    "EDMDPMSolverMultistepScheduler": partial(_edm, multistep=True),
    "FlowMatchEulerDiscreteScheduler": partial(_flow, euler),
    "FlowMatchHeunDiscreteScheduler": partial(_flow, flow_heun),
    "ScoreSdeVeScheduler": _score_ve,
    "ScoreSdeVpScheduler": _score_vp,
    "KarrasVeScheduler": _karras_ve,
}
