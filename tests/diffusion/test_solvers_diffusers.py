"""Solvers beside the schedulers of diffusers: equal inputs of the network at every evaluation."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from genax.diffusion.linear_flow import LinearFlow
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
from tests.diffusion.side_by_side import (
    agree_from_end_to_end,
    in_float64,
    ours_of,
    ours_of_network,
    theirs_of,
    theirs_of_karras_ve,
    wave,
)
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


def scheduler_of(name, num_steps, **settings):
    """A scheduler of diffusers with PROCESS's schedule, in the precision of ours."""
    _, diffusers = require("torch", "diffusers")
    scheduler = getattr(diffusers, name)(beta_start=1e-4, beta_end=0.02, **settings)
    in_float64(scheduler)
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
    theirs = theirs_of(scheduler, monkeypatch)
    ours = ours_of_network(solver(num_steps), PROCESS, wave, clip=True)
    agree_from_end_to_end(ours, theirs)


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_ddim_of_stable_diffusion(eta, num_steps, monkeypatch):
    settings = {"set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False}
    scheduler = scheduler_of("DDIMScheduler", num_steps, **settings)
    theirs = theirs_of(scheduler, monkeypatch, eta=eta)
    solver = ddim(PROCESS, leading(1000, num_steps, offset=1), eta, end=0)
    agree_from_end_to_end(ours_of_network(solver, PROCESS, wave), theirs)


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("to_one", [True, False])
def test_inversion_of_ddim(to_one, num_steps, monkeypatch):
    settings = {"set_alpha_to_one": to_one, "steps_offset": 1, "clip_sample": False}
    scheduler = scheduler_of("DDIMInverseScheduler", num_steps, **settings)
    theirs = theirs_of(scheduler, monkeypatch)
    end = None if to_one else 0
    solver = ddim_inversion(PROCESS, leading(1000, num_steps, offset=1), end)
    agree_from_end_to_end(ours_of_network(solver, PROCESS, wave), theirs)


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize(
    ("skip", "to_one", "offset"), [(False, False, 0), (True, False, 1), (False, True, 0)]
)
def test_pndm(skip, to_one, offset, num_steps, monkeypatch):
    settings = {"skip_prk_steps": skip, "set_alpha_to_one": to_one, "steps_offset": offset}
    scheduler = scheduler_of("PNDMScheduler", num_steps, **settings)
    theirs = theirs_of(scheduler, monkeypatch)
    assert len(theirs[1]) == num_steps + (1 if skip else 9)
    solver = pndm(PROCESS, leading(1000, num_steps, offset), skip, end=None if to_one else 0)
    agree_from_end_to_end(ours_of_network(solver, PROCESS, wave), theirs)


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
    factor = float((scheduler.sigmas[0] ** 2 + 1) ** 0.5)
    theirs = theirs_of(scheduler, monkeypatch, factor=factor)
    ours = ours_of_network(solver(process, times(num_steps)), process, wave)
    agree_from_end_to_end(ours, theirs, times_tolerance=2e-3)


@pytest.mark.parametrize("num_steps", STEPS)
def test_karras_ve_is_heun_with_churn(num_steps, monkeypatch):
    """Its levels are squares of sigma, and its network the negative of a prediction of noise."""
    require("torch", "diffusers")
    from diffusers.schedulers.deprecated.scheduling_karras_ve import KarrasVeScheduler

    scheduler = KarrasVeScheduler()
    scheduler.set_timesteps(num_steps)

    def output(x, sigma):
        return -wave(x / (1 + sigma**2) ** 0.5, sigma)

    theirs = theirs_of_karras_ve(scheduler, monkeypatch, output)
    solver = heun(
        EXPLODING, exponential(num_steps, 0.02**2, 100.0**2), Churn(80, 0.05, 50, noise=1.007)
    )
    ours = ours_of(solver, lambda x, sigma: x + sigma * output(x, sigma))
    agree_from_end_to_end(ours, theirs, times_tolerance=0.0)


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
    theirs = theirs_of(scheduler, monkeypatch)
    smallest = shift * 0.001 / (1 + (shift - 1) * 0.001)
    solver = solver(STRAIGHT, flow(num_steps, shift, smallest))
    ours = ours_of(solver, lambda x, time: x - time * wave(x, 1000 * time))
    np.testing.assert_allclose(ours[1][0], 1.0)
    ours = ours[0], [1000 * time for time in ours[1]], ours[2]
    agree_from_end_to_end(ours, theirs, times_tolerance=1e-3)
