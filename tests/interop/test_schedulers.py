"""Schedulers of diffusers: our solver of a configuration beside theirs, and the way back."""

from __future__ import annotations

import inspect
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.diffusion.predictions import at_times, predict_clean
from genax.diffusion.process import DiscreteProcess
from genax.interop.schedulers import load_scheduler, scheduler_config
from tests.parity import require

STEPS = 10
RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=(2, 4, 4, 1)).astype(np.float32)
MORE_NOISE = RNG.normal(size=(30, *NOISE.shape)).astype(np.float32)


def wave(x, time):
    """An output whose slope is below 1: a steeper one would multiply rounding."""
    angle = x / 2 + time / 100
    return jnp.sin(angle) if isinstance(angle, jax.Array) else angle.sin()


def ours_of(scheduler, network=wave):
    """What the network gets at every call, at which times, and the samples."""
    seen = []

    def seeing(x, times):
        jax.debug.callback(lambda *pair: seen.append(pair), x, times[0], ordered=True)
        return network(x, times[0])

    process, prediction = scheduler.process, scheduler.prediction

    def denoise(x, time):
        times = jnp.full(len(x), time)
        output = at_times(seeing, process, prediction)(x, times)
        return predict_clean(process, prediction, output, x, times, scheduler.clip)

    solver = scheduler.solver(STEPS)
    samples = jax.jit(
        lambda noise: solver(denoise, noise, lambda number: jnp.asarray(MORE_NOISE)[number])
    )(NOISE)
    samples.block_until_ready()
    jax.effects_barrier()
    return [np.asarray(x) for x, _ in seen], [float(time) for _, time in seen], np.asarray(samples)


def first_of(scheduler):
    """Our first noise, in the units of a scheduler of sigma / signal."""
    times = scheduler.times(STEPS)
    at = jnp.asarray(times[:1], float)
    start = NOISE * float(scheduler.process.prior(at)[0])
    discrete = isinstance(scheduler.process, DiscreteProcess)
    return start, start / float(scheduler.process.signal(at)[0]) if discrete else start


def agree(ours, theirs, times_tolerance):
    for found, expected in zip(ours[1], theirs[1], strict=True):
        assert found == pytest.approx(float(expected), rel=1e-5, abs=times_tolerance)
    pairs = zip([*ours[0], ours[2]], [*theirs[0], theirs[2]], strict=True)
    for number, (mine, other) in enumerate(pairs):
        assert np.abs(mine - other).max() < 1e-4 * (1 + np.abs(other).max()), number


def in_float64(torch, scheduler, process):
    """Their tables without the cancellation of float32."""
    scheduler.betas = torch.from_numpy(process.betas)
    scheduler.alphas = 1 - scheduler.betas
    scheduler.alphas_cumprod = torch.from_numpy(process.alphas_cumprod)
    scheduler.alpha_t = scheduler.alphas_cumprod.sqrt()
    scheduler.sigma_t = (1 - scheduler.alphas_cumprod).sqrt()
    scheduler.lambda_t = scheduler.alpha_t.log() - scheduler.sigma_t.log()
    for name in ("final_alpha_cumprod", "initial_alpha_cumprod"):
        if getattr(scheduler, name, 1.0) != 1.0:
            setattr(scheduler, name, scheduler.alphas_cumprod[0])


def theirs_of(scheduler, ours, monkeypatch, **settings):
    [torch] = require("torch")
    module = inspect.getmodule(type(scheduler))
    drawn = iter(torch.from_numpy(MORE_NOISE[1:]))
    if hasattr(module, "randn_tensor"):
        monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: next(drawn))
    if hasattr(module, "BrownianTreeNoiseSampler"):
        sampler = lambda *_: lambda *_: next(drawn)  # noqa: E731
        monkeypatch.setattr(module, "BrownianTreeNoiseSampler", sampler)
    scale = getattr(scheduler, "scale_model_input", lambda x, timestep: x)
    of_sigma = hasattr(scheduler, "is_scale_input_called") or "sigma_input" in inspect.getsource(
        type(scheduler)
    )
    start = first_of(ours)[1 if of_sigma else 0]
    x, seen, times = torch.from_numpy(np.array(start, np.float32)), [], []
    for timestep in scheduler.timesteps:
        scaled = scale(x, timestep).float()
        seen.append(scaled.numpy())
        times.append(float(timestep))
        x = scheduler.step(wave(scaled, timestep), timestep, x, **settings).prev_sample.float()
    return seen, times, x.numpy()


SIGMA_MIN = {"final_sigmas_type": "sigma_min"}
KARRAS = {"use_karras_sigmas": True}
STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
CASES = [
    ("DDPMScheduler", {}),
    ("DDPMScheduler", {"variance_type": "fixed_large", "clip_sample_range": 0.5}),
    ("DDPMScheduler", {"beta_schedule": "sigmoid", "thresholding": True, "sample_max_value": 2.0}),
    ("DDPMScheduler", {"timestep_spacing": "linspace", "prediction_type": "v_prediction"}),
    ("DDIMScheduler", {}),
    (
        "DDIMScheduler",
        STABLE | {"set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False},
    ),
    (
        "DDIMScheduler",
        {
            "rescale_betas_zero_snr": True,
            "prediction_type": "v_prediction",
            "timestep_spacing": "trailing",
        },
    ),
    ("DDIMInverseScheduler", {"clip_sample": False}),
    ("PNDMScheduler", STABLE | {"skip_prk_steps": True, "steps_offset": 1}),
    ("PNDMScheduler", {"set_alpha_to_one": True}),
    ("DPMSolverMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", STABLE | KARRAS | {"solver_order": 3}),
    ("DPMSolverMultistepScheduler", {"use_lu_lambdas": True, **SIGMA_MIN}),
    (
        "DPMSolverMultistepScheduler",
        {
            "beta_schedule": "squaredcos_cap_v2",
            "lambda_min_clipped": -5.1,
            "algorithm_type": "sde-dpmsolver++",
            "solver_type": "heun",
        },
    ),
    ("DPMSolverMultistepScheduler", {"timestep_spacing": "leading", "steps_offset": 1}),
    ("DPMSolverMultistepScheduler", {"thresholding": True, "euler_at_final": True, **SIGMA_MIN}),
    (
        "DPMSolverMultistepScheduler",
        {"prediction_type": "v_prediction", "timestep_spacing": "trailing"},
    ),
    ("DPMSolverSinglestepScheduler", {}),
    ("DPMSolverSinglestepScheduler", KARRAS | {"solver_order": 3}),
    ("DPMSolverSinglestepScheduler", SIGMA_MIN | {"prediction_type": "sample"}),
    ("DPMSolverSDEScheduler", {}),
    ("DPMSolverSDEScheduler", KARRAS | {"prediction_type": "v_prediction"}),
    ("UniPCMultistepScheduler", {}),
    ("UniPCMultistepScheduler", KARRAS | {"solver_order": 3, "prediction_type": "v_prediction"}),
    ("UniPCMultistepScheduler", {"disable_corrector": [0, 1], "thresholding": True}),
    ("UniPCMultistepScheduler", SIGMA_MIN | {"solver_type": "bh1", "prediction_type": "sample"}),
    ("SASolverScheduler", {"prediction_type": "sample"}),
    ("SASolverScheduler", KARRAS | {"prediction_type": "sample"}),
    ("EulerDiscreteScheduler", {}),
    (
        "EulerDiscreteScheduler",
        STABLE | KARRAS | {"timestep_spacing": "leading", "steps_offset": 1},
    ),
    ("EulerDiscreteScheduler", {"prediction_type": "v_prediction", **SIGMA_MIN}),
    ("EulerDiscreteScheduler", {"use_exponential_sigmas": True}),
    (
        "EulerDiscreteScheduler",
        {
            "rescale_betas_zero_snr": True,
            "prediction_type": "v_prediction",
            "timestep_spacing": "trailing",
        },
    ),
    ("EulerAncestralDiscreteScheduler", {}),
    ("EulerAncestralDiscreteScheduler", STABLE | {"timestep_spacing": "trailing"}),
    ("HeunDiscreteScheduler", {}),
    ("HeunDiscreteScheduler", KARRAS | {"clip_sample": True}),
    ("LMSDiscreteScheduler", {}),
    ("LMSDiscreteScheduler", KARRAS),
    ("EDMEulerScheduler", {}),
    ("EDMEulerScheduler", SIGMA_MIN | {"sigma_schedule": "exponential", "sigma_data": 1.0}),
    ("EDMDPMSolverMultistepScheduler", {}),
    (
        "EDMDPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "prediction_type": "v_prediction"},
    ),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    ("FlowMatchHeunDiscreteScheduler", {}),
]
ROUGH = "ignore:.*is deprecated and will be removed:FutureWarning"


def read(name, settings):
    return load_scheduler({"_class_name": name, "_diffusers_version": "0.42.1", **settings})


@pytest.mark.filterwarnings(ROUGH)
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_solver_of_a_configuration_is_theirs(name, settings, monkeypatch):
    torch, diffusers = require("torch", "diffusers")
    scheduler = getattr(diffusers, name)(**settings)
    ours = read(name, settings)
    if isinstance(ours.process, DiscreteProcess):
        in_float64(torch, scheduler, ours.process)
    scheduler.set_timesteps(STEPS)
    if name == "SASolverScheduler":
        # They compute with a tensor's time, and need a tensor back.
        tau = scheduler.tau_func
        scheduler.tau_func = lambda time: torch.tensor(float(tau(time)))
    clipped = {"use_clipped_model_output": True} if name == "DDIMScheduler" else {}
    theirs = theirs_of(scheduler, ours, monkeypatch, **clipped)
    agree(ours_of(ours), theirs, 0.1 if name == "DPMSolverSDEScheduler" else 2e-3)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_configuration_comes_back(name, settings):
    """diffusers reads what we write, and we read what it writes: all settings with defaults."""
    _, diffusers = require("torch", "diffusers")
    ours = read(name, settings)
    assert scheduler_config(ours) == {"_class_name": name, **settings}
    theirs = getattr(diffusers, name).from_config(scheduler_config(ours))
    again = load_scheduler(json.loads(theirs.to_json_string()))
    np.testing.assert_array_equal(again.times(STEPS), ours.times(STEPS))
    assert isinstance(again.process, type(ours.process))
    for key, value in settings.items():
        assert scheduler_config(again)[key] == value
