"""Solvers beside the schedulers of diffusers: equal inputs of the network at every evaluation."""

from __future__ import annotations

import inspect
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.diffusion.linear_flow import LinearFlow
from genax.diffusion.predictions import EPSILON, predict_clean
from genax.diffusion.process import DiscreteProcess, fixed_large, fixed_small
from genax.diffusion.solvers import (
    Churn,
    ancestral,
    ddim,
    ddim_inversion,
    dpm_2,
    euler,
    euler_ancestral,
    flow_heun,
    heun,
    lms,
    pndm,
)
from genax.diffusion.spacings import exponential, flow, karras, leading, linspace, trailing
from genax.diffusion.variance_exploding import VarianceExploding
from tests.diffusion.test_solvers import MORE_NOISE, NOISE, agree, in_float64
from tests.diffusion.toys import PROCESS
from tests.parity import require

STEPS = [10, *(pytest.param(num_steps, marks=pytest.mark.long) for num_steps in (25, 50))]
EVENLY = DiscreteProcess(PROCESS.betas, "linear")
EXPLODING, STRAIGHT = VarianceExploding(), LinearFlow()
# diffusers' largest and smallest sigma / signal of the process.
ENDS = {
    "smallest": (1 / PROCESS.alphas_cumprod[0] - 1) ** 0.5,
    "largest": (1 / PROCESS.alphas_cumprod[-1] - 1) ** 0.5,
}


def wave(x, time):
    """A prediction of noise whose slope is below 1: a steeper one would multiply rounding."""
    angle = x / 2 + time / 100
    return jnp.sin(angle) if isinstance(angle, jax.Array) else angle.sin()


def ours_of(solver, clean):
    """What the solver shows to the network at each call, at which times, and its samples."""
    seen = []

    def denoise(x, time):
        jax.debug.callback(lambda *pair: seen.append(pair), x, time, ordered=True)
        return clean(x, time)

    samples = jax.jit(
        lambda: solver(denoise, NOISE, lambda number: jnp.array(MORE_NOISE)[number])
    )()
    samples.block_until_ready()
    jax.effects_barrier()
    return [np.asarray(x) for x, _ in seen], [float(time) for _, time in seen], np.asarray(samples)


def theirs_of(scheduler, start, monkeypatch, **settings):
    """The same of a scheduler. The network gets what `scale_model_input` returns."""
    [torch] = require("torch")
    drawn = iter(torch.from_numpy(MORE_NOISE[1:]))
    module = inspect.getmodule(type(scheduler))
    if hasattr(module, "randn_tensor"):
        monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: next(drawn))
    x, seen = torch.from_numpy(np.array(start, np.float32)), []
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, timestep)
        seen.append(scaled.numpy())
        x = scheduler.step(wave(scaled, timestep), timestep, x, **settings).prev_sample
    return seen, np.array(scheduler.timesteps), x.numpy()


def agree_with(ours, theirs, times_tolerance=1e-4):
    for found, expected in zip(ours[1], theirs[1], strict=True):
        assert found == pytest.approx(float(expected), rel=1e-5, abs=times_tolerance)
    agree([*ours[0], ours[2]], [*theirs[0], theirs[2]], 1e-4)


def clean_of(process, clip=False):
    def clean(x, time):
        times = jnp.full(len(x), time)
        return predict_clean(process, EPSILON, wave(x, time), x, times, clip)

    return clean


def scheduler_of(name, num_steps, **settings):
    """A scheduler of diffusers with PROCESS's schedule, in the precision of ours."""
    torch, diffusers = require("torch", "diffusers")
    scheduler = getattr(diffusers, name)(beta_start=1e-4, beta_end=0.02, **settings)
    in_float64(torch, scheduler)
    for name in ("final_alpha_cumprod", "initial_alpha_cumprod"):
        if getattr(scheduler, name, 1.0) != 1.0:
            setattr(scheduler, name, scheduler.alphas_cumprod[0])
    scheduler.set_timesteps(num_steps)
    return scheduler


CHAINS = {
    "ddpm-small": (
        {"variance_type": "fixed_small"},
        lambda n: ancestral(PROCESS, fixed_small, leading(1000, n)),
    ),
    "ddpm-large": (
        {"variance_type": "fixed_large", "timestep_spacing": "linspace"},
        lambda n: ancestral(PROCESS, fixed_large, linspace(1000, n)),
    ),
}


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("name", CHAINS)
def test_ancestral_with_fewer_steps(name, num_steps, monkeypatch):
    settings, solver = CHAINS[name]
    scheduler = scheduler_of("DDPMScheduler", num_steps, **settings)
    theirs = theirs_of(scheduler, NOISE, monkeypatch)
    agree_with(ours_of(solver(num_steps), clean_of(PROCESS, clip=True)), theirs)


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_ddim_of_stable_diffusion(eta, num_steps, monkeypatch):
    settings = {"set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False}
    scheduler = scheduler_of("DDIMScheduler", num_steps, **settings)
    theirs = theirs_of(scheduler, NOISE, monkeypatch, eta=eta)
    solver = ddim(PROCESS, leading(1000, num_steps, offset=1), eta, end=0)
    agree_with(ours_of(solver, clean_of(PROCESS)), theirs)


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("to_one", [True, False])
def test_inversion_of_ddim(to_one, num_steps, monkeypatch):
    settings = {"set_alpha_to_one": to_one, "steps_offset": 1, "clip_sample": False}
    scheduler = scheduler_of("DDIMInverseScheduler", num_steps, **settings)
    theirs = theirs_of(scheduler, NOISE, monkeypatch)
    end = None if to_one else 0
    solver = ddim_inversion(PROCESS, leading(1000, num_steps, offset=1), end)
    agree_with(ours_of(solver, clean_of(PROCESS)), theirs)


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize(
    ("skip", "to_one", "offset"), [(False, False, 0), (True, False, 1), (False, True, 0)]
)
def test_pndm(skip, to_one, offset, num_steps, monkeypatch):
    settings = {"skip_prk_steps": skip, "set_alpha_to_one": to_one, "steps_offset": offset}
    scheduler = scheduler_of("PNDMScheduler", num_steps, **settings)
    theirs = theirs_of(scheduler, NOISE, monkeypatch)
    assert len(theirs[1]) == num_steps + (1 if skip else 9)
    solver = pndm(PROCESS, leading(1000, num_steps, offset), skip, end=None if to_one else 0)
    agree_with(ours_of(solver, clean_of(PROCESS)), theirs)


def karras_times(num_steps):
    return np.asarray(PROCESS.time_of(jnp.asarray(karras(num_steps, **ENDS))))


def exponential_times(num_steps):
    return np.asarray(PROCESS.time_of(jnp.asarray(exponential(num_steps, **ENDS))))


SPACED = {
    "linspace": ({}, EVENLY, partial(linspace, 1000, whole=False)),
    "leading": (
        {"timestep_spacing": "leading", "steps_offset": 1},
        PROCESS,
        partial(leading, 1000, offset=1),
    ),
    "trailing": ({"timestep_spacing": "trailing"}, PROCESS, partial(trailing, 1000)),
    "karras": ({"use_karras_sigmas": True}, PROCESS, karras_times),
    "exponential": ({"use_exponential_sigmas": True}, PROCESS, exponential_times),
}
OF_SIGMA = [
    ("EulerDiscreteScheduler", euler, "linspace"),
    ("EulerDiscreteScheduler", euler, "leading"),
    ("EulerDiscreteScheduler", euler, "karras"),
    ("EulerDiscreteScheduler", euler, "exponential"),
    ("EulerAncestralDiscreteScheduler", euler_ancestral, "linspace"),
    ("EulerAncestralDiscreteScheduler", euler_ancestral, "trailing"),
    ("HeunDiscreteScheduler", heun, "linspace"),
    ("HeunDiscreteScheduler", heun, "karras"),
    ("KDPM2DiscreteScheduler", dpm_2, "leading"),
    ("KDPM2DiscreteScheduler", dpm_2, "exponential"),
    ("LMSDiscreteScheduler", lms, "linspace"),
    ("LMSDiscreteScheduler", lms, "karras"),
]


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize(("name", "solver", "spacing"), OF_SIGMA)
def test_solvers_in_sigma_over_signal(name, solver, spacing, num_steps, monkeypatch):
    """Their samples are ours divided by the signal. The network of both gets ours."""
    settings, process, times = SPACED[spacing]
    scheduler = scheduler_of(name, num_steps, **settings)
    start = NOISE * float((scheduler.sigmas[0] ** 2 + 1) ** 0.5)
    theirs = theirs_of(scheduler, start, monkeypatch)
    agree_with(ours_of(solver(process, times(num_steps)), clean_of(process)), theirs, 2e-3)


@pytest.mark.parametrize("num_steps", STEPS)
def test_karras_ve_is_heun_with_churn(num_steps, monkeypatch):
    """Its levels are squares of sigma, and its network the negative of a prediction of noise."""
    torch, _ = require("torch", "diffusers")
    from diffusers.schedulers.deprecated import scheduling_karras_ve as module

    scheduler = module.KarrasVeScheduler()
    scheduler.set_timesteps(num_steps)
    drawn = iter(torch.from_numpy(MORE_NOISE[1:]))
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: next(drawn))
    levels = [*(float(scheduler.schedule[t]) for t in scheduler.timesteps), 0.0]

    def output(x, sigma):
        return -wave(x / (1 + sigma**2) ** 0.5, sigma)

    x, seen, times = torch.from_numpy(np.array(NOISE)) * levels[0], [], []
    for now, after in itertools.pairwise(levels):
        raised, hat = scheduler.add_noise_to_input(x, torch.tensor(now))
        seen.append(raised.numpy())
        times.append(float(hat))
        first = scheduler.step(output(raised, hat), hat, after, raised)
        x = first.prev_sample
        if after:
            seen.append(x.numpy())
            times.append(after)
            found = output(x, torch.tensor(after))
            slope = first.derivative
            x = scheduler.step_correct(found, hat, after, raised, x, slope).prev_sample
    solver = heun(
        EXPLODING, exponential(num_steps, 0.02**2, 100.0**2), Churn(80, 0.05, 50, noise=1.007)
    )
    ours = ours_of(solver, lambda x, sigma: x + sigma * output(x, sigma))
    np.testing.assert_allclose(ours[1], times, rtol=1e-5)
    agree([*ours[0], ours[2]], [*seen, x.numpy()], 1e-4)


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(
    ("name", "solver"),
    [
        ("FlowMatchEulerDiscreteScheduler", euler),
        ("FlowMatchHeunDiscreteScheduler", flow_heun),
    ],
)
def test_flow_matching(name, solver, shift, num_steps, monkeypatch):
    """Their table of sigmas is shifted once when it is made, and once for the steps."""
    _, diffusers = require("torch", "diffusers")
    scheduler = getattr(diffusers, name)(shift=shift)
    scheduler.set_timesteps(num_steps)
    scheduler.scale_model_input = lambda x, timestep: x
    theirs = theirs_of(scheduler, NOISE, monkeypatch)
    smallest = shift * 0.001 / (1 + (shift - 1) * 0.001)
    solver = solver(STRAIGHT, flow(num_steps, shift, smallest))
    ours = ours_of(solver, lambda x, time: x - time * wave(x, 1000 * time))
    np.testing.assert_allclose(ours[1][0], 1.0)
    agree_with((ours[0], [1000 * time for time in ours[1]], ours[2]), theirs, 1e-3)
