"""The DPM-Solver family, UniPC and SA-Solver: as diffusers has them, step for step."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.diffusion.linear_flow import LinearFlow
from genax.diffusion.preconditioning import preconditioned
from genax.diffusion.solvers.dpm_solver import dpm_solver, dpm_solver_singlestep
from genax.diffusion.solvers.dpm_solver_sde import dpm_solver_2s, dpm_solver_sde
from genax.diffusion.solvers.sa_solver import sa_solver
from genax.diffusion.solvers.uni_pc import uni_pc
from genax.diffusion.spacings import karras, trailing
from genax.diffusion.variance_exploding import NoiseLevels, VarianceExploding
from tests.diffusion.side_by_side import (
    ROUGH,
    agree,
    agree_from_end_to_end,
    in_float64,
    ours_of,
    ours_of_network,
    theirs_of,
    wavy,
    with_tensors,
)
from tests.diffusion.toys import MORE_NOISE, NOISE, PROCESS
from tests.parity import require

EXPLODING = VarianceExploding()
LONG = pytest.mark.long
STEPS = [10, pytest.param(25, marks=LONG), pytest.param(50, marks=LONG)]


def agrees(scheduler, solver, num_steps, monkeypatch):
    """Compare with a scheduler whose network predicts clean samples.

    Predicted noise would multiply rounding by 150.
    """
    [torch] = require("torch")
    in_float64(scheduler)
    scheduler.set_timesteps(num_steps)
    # Their coefficients without float32's cancellation, too.
    ratios = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt()
    last = ratios[:1] if scheduler.sigmas[-1] else torch.zeros(1)
    scheduler.sigmas = torch.cat([ratios[scheduler.timesteps], last])
    theirs = theirs_of(scheduler, monkeypatch, wavy)
    agree_from_end_to_end(ours_of(solver(np.array(scheduler.timesteps)), wavy), theirs)


MULTISTEP = {
    "1": ({"solver_order": 1}, {"order": 1}),
    "2-heun": ({"solver_type": "heun"}, {"heun": True}),
    "2-whole": ({"lower_order_final": False}, {"lower_order_final": False}),
    "2-sigma-min": ({"final_sigmas_type": "sigma_min"}, {"end": 0}),
    "2-euler": (
        {"final_sigmas_type": "sigma_min", "euler_at_final": True},
        {"end": 0, "euler_at_final": True},
    ),
    "3": ({"solver_order": 3}, {"order": 3}),
    "3-whole": (
        {"solver_order": 3, "lower_order_final": False, "final_sigmas_type": "sigma_min"},
        {"order": 3, "lower_order_final": False, "end": 0},
    ),
    "sde": ({"algorithm_type": "sde-dpmsolver++"}, {"stochastic": True}),
    "sde-heun": (
        {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"},
        {"stochastic": True, "heun": True},
    ),
    "noise": (
        {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
        {"of_noise": True, "end": 0},
    ),
    "noise-3": (
        {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "solver_order": 3},
        {"of_noise": True, "end": 0, "order": 3},
    ),
    "noise-sde": (
        {"algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min"},
        {"of_noise": True, "end": 0, "stochastic": True},
    ),
    "noise-sde-heun": (
        {
            "algorithm_type": "sde-dpmsolver",
            "final_sigmas_type": "sigma_min",
            "solver_type": "heun",
        },
        {"of_noise": True, "end": 0, "stochastic": True, "heun": True},
    ),
}


@pytest.mark.filterwarnings(ROUGH)
@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("variant", MULTISTEP)
def test_multistep_agrees_with_diffusers(variant, num_steps, monkeypatch):
    [diffusers] = require("diffusers")
    settings, ours = MULTISTEP[variant]
    scheduler = diffusers.DPMSolverMultistepScheduler(
        timestep_spacing="trailing", prediction_type="sample", **settings
    )
    agrees(scheduler, lambda times: dpm_solver(PROCESS, times, **ours), num_steps, monkeypatch)


SINGLESTEP = {
    "1": ({"solver_order": 1}, {"order": 1}),
    "2": ({}, {}),
    "2-heun": ({"solver_type": "heun"}, {"heun": True}),
    "2-sigma-min": ({"final_sigmas_type": "sigma_min"}, {"end": 0}),
    "2-lower": (
        {"final_sigmas_type": "sigma_min", "lower_order_final": True},
        {"end": 0},
    ),
    "3": ({"solver_order": 3}, {"order": 3}),
    "3-heun": ({"solver_order": 3, "solver_type": "heun"}, {"order": 3, "heun": True}),
    "sde": ({"algorithm_type": "sde-dpmsolver++"}, {"stochastic": True}),
    "sde-heun": (
        {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"},
        {"stochastic": True, "heun": True},
    ),
    "sde-3": (
        {"algorithm_type": "sde-dpmsolver++", "solver_order": 3},
        {"stochastic": True, "order": 3},
    ),
    "noise": (
        {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
        {"of_noise": True, "end": 0},
    ),
    "noise-3-heun": (
        {
            "algorithm_type": "dpmsolver",
            "final_sigmas_type": "sigma_min",
            "solver_order": 3,
            "solver_type": "heun",
        },
        {"of_noise": True, "end": 0, "order": 3, "heun": True},
    ),
}


@pytest.mark.filterwarnings(ROUGH)
@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("variant", SINGLESTEP)
def test_singlestep_agrees_with_diffusers(variant, num_steps, monkeypatch):
    [diffusers] = require("diffusers")
    settings, ours = SINGLESTEP[variant]
    scheduler = diffusers.DPMSolverSinglestepScheduler(prediction_type="sample", **settings)
    agrees(
        scheduler,
        # They change it with the number of steps.
        lambda times: dpm_solver_singlestep(
            PROCESS, times, **ours, lower_order_final=scheduler.config.lower_order_final
        ),
        num_steps,
        monkeypatch,
    )


UNI_PC = {
    "1": ({"solver_order": 1}, {"order": 1}),
    "2": ({}, {}),
    "2-bh1": ({"solver_type": "bh1", "final_sigmas_type": "sigma_min"}, {"quick": False, "end": 0}),
    "3": ({"solver_order": 3}, {"order": 3}),
    "3-bh1": (
        {"solver_order": 3, "solver_type": "bh1", "final_sigmas_type": "sigma_min"},
        {"order": 3, "quick": False, "end": 0},
    ),
    "3-whole": (
        {"solver_order": 3, "lower_order_final": False, "final_sigmas_type": "sigma_min"},
        {"order": 3, "lower_order_final": False, "end": 0},
    ),
    "uncorrected": ({"disable_corrector": [0, 3]}, {"uncorrected": [0, 3]}),
    "noise": (
        {"predict_x0": False, "final_sigmas_type": "sigma_min"},
        {"of_noise": True, "end": 0},
    ),
    "noise-bh1": (
        {"predict_x0": False, "final_sigmas_type": "sigma_min", "solver_type": "bh1"},
        {"of_noise": True, "end": 0, "quick": False},
    ),
    "noise-3": (
        {"predict_x0": False, "final_sigmas_type": "sigma_min", "solver_order": 3},
        {"of_noise": True, "end": 0, "order": 3},
    ),
}


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("variant", UNI_PC)
def test_uni_pc_agrees_with_diffusers(variant, num_steps, monkeypatch):
    [diffusers] = require("diffusers")
    settings, ours = UNI_PC[variant]
    scheduler = diffusers.UniPCMultistepScheduler(prediction_type="sample", **settings)
    agrees(scheduler, lambda times: uni_pc(PROCESS, times, **ours), num_steps, monkeypatch)


SA_SOLVER = {
    "2": ({}, {}),
    "1-1": (
        {"predictor_order": 1, "corrector_order": 1},
        {"predictor_order": 1, "corrector_order": 1},
    ),
    "3-4": (
        {"predictor_order": 3, "corrector_order": 4},
        {"predictor_order": 3, "corrector_order": 4},
    ),
    "whole": ({"lower_order_final": False}, {"lower_order_final": False}),
    "flow": ({"tau_func": lambda t: 0}, {"stochasticity": lambda time: 0.0}),
    "noise": ({"algorithm_type": "noise_prediction"}, {"of_noise": True}),
}


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("variant", SA_SOLVER)
def test_sa_solver_agrees_with_diffusers(variant, num_steps, monkeypatch):
    [diffusers] = require("diffusers")
    settings, ours = SA_SOLVER[variant]
    scheduler = diffusers.SASolverScheduler(prediction_type="sample", **settings)
    scheduler.tau_func = with_tensors(scheduler.tau_func)
    agrees(
        scheduler, lambda times: sa_solver(PROCESS, times, end=0, **ours), num_steps, monkeypatch
    )


def in_ratio(x, sigma):
    """What a network of the discrete process that predicts v makes of samples over their signal."""
    time = jnp.interp(jnp.log(sigma), jnp.log(PROCESS.ratios), jnp.arange(1000.0))
    scale = 1 / jnp.sqrt(sigma**2 + 1)
    return scale**2 * x - sigma * scale * wavy(scale * x, time)


@pytest.mark.parametrize("num_steps", STEPS)
def test_sde_solver_agrees_with_diffusers(num_steps, monkeypatch):
    """Our noise takes the place of their Brownian path's."""
    _, diffusers, _ = require("torch", "diffusers", "torchsde")
    scheduler = diffusers.DPMSolverSDEScheduler(
        beta_start=1e-4, beta_end=0.02, timestep_spacing="trailing", prediction_type="v_prediction"
    )
    in_float64(scheduler)
    scheduler.set_timesteps(num_steps)
    factor = float(scheduler.sigmas[0])
    theirs, _, expected = theirs_of(scheduler, monkeypatch, wavy, factor)
    times = PROCESS.ratios[trailing(1000, num_steps)]
    seen, sigmas, samples = ours_of(dpm_solver_sde(EXPLODING, times), in_ratio)
    # Their network gets our samples times the signal.
    scaled = [x / np.sqrt(sigma**2 + 1) for x, sigma in zip(seen, sigmas, strict=True)]
    agree([*scaled, samples], [*theirs, expected], 1e-4)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_two_evaluations_are_those_of_k_diffusion(eta):
    """sample_dpmpp_2s_ancestral in float64."""
    sigmas = [*karras(10), 0.0]
    x, theirs = np.asarray(NOISE, np.float64) * sigmas[0], []

    def clean(x, sigma):
        theirs.append(x)
        return np.tanh(x / (1 + sigma))

    for number, (now, after) in enumerate(itertools.pairwise(sigmas), 1):
        up = min(after, eta * (after**2 * (now**2 - after**2) / now**2) ** 0.5)
        down = (after**2 - up**2) ** 0.5
        denoised = clean(x, now)
        if down == 0:
            x = x + (x - denoised) / now * (down - now)
            continue
        t, t_next = -np.log(now), -np.log(down)
        s = t + (t_next - t) / 2
        half = np.exp(-s) / np.exp(-t) * x - np.expm1(-(t_next - t) / 2) * denoised
        x = np.exp(-t_next) / np.exp(-t) * x - np.expm1(-(t_next - t)) * clean(half, np.exp(-s))
        x = x + up * MORE_NOISE[2 * number]
    solver = dpm_solver_2s(EXPLODING, karras(10), eta)
    seen, _, samples = ours_of(solver, lambda x, sigma: jnp.tanh(x / (1 + sigma)))
    agree([*seen, samples], [*theirs, x], 1e-5)


@pytest.mark.parametrize("num_steps", STEPS)
def test_third_order_of_the_sde_is_that_of_k_diffusion(num_steps):
    """sample_dpmpp_3m_sde with eta 1, in float64.

    The scheduler of diffusers adds the third term with half of another one in place of its
    difference from it, so that its error does not fall faster than that of order 1.
    """
    sigmas = [*karras(num_steps), 0.0]
    x, theirs = np.asarray(NOISE, np.float64) * sigmas[0], []
    history, lengths = [], []
    for number, (now, after) in enumerate(itertools.pairwise(sigmas), 1):
        theirs.append(x)
        denoised = np.tanh(x / (1 + now))
        if after == 0:
            x = denoised
            continue
        h = np.log(now) - np.log(after)
        x = np.exp(-2 * h) * x - np.expm1(-2 * h) * denoised
        first = np.expm1(-2 * h) / (2 * h) + 1
        if len(history) > 1:
            r0, r1 = lengths[-1] / h, lengths[-2] / h
            near, far = (denoised - history[-1]) / r0, (history[-1] - history[-2]) / r1
            slope = near + (near - far) * r0 / (r0 + r1)
            x = x + first * slope - (first / (2 * h) - 0.5) * (near - far) / (r0 + r1)
        elif history:
            x = x + first * (denoised - history[-1]) / (lengths[-1] / h)
        x = x + MORE_NOISE[number] * after * np.sqrt(-np.expm1(-2 * h))
        history.append(denoised)
        lengths.append(h)
    solver = dpm_solver(
        EXPLODING, karras(num_steps), 3, heun=True, stochastic=True, lower_order_final=False
    )
    seen, _, samples = ours_of(solver, lambda x, sigma: jnp.tanh(x / (1 + sigma)))
    agree([*seen, samples], [*theirs, x], 1e-4)


EDM = {
    "2": ({}, {}),
    "3": ({"solver_order": 3}, {"order": 3}),
    "2-heun-sde": (
        {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"},
        {"stochastic": True, "heun": True},
    ),
    "euler": (None, {"order": 1}),
}


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("variant", EDM)
def test_solvers_of_edm_agree_with_diffusers(variant, num_steps, monkeypatch):
    torch, diffusers = require("torch", "diffusers")
    settings, ours = EDM[variant]
    if settings is None:
        scheduler = diffusers.EDMEulerScheduler()
    else:
        scheduler = diffusers.EDMDPMSolverMultistepScheduler(**settings)
    scheduler.set_timesteps(num_steps)
    # Their coefficients without float32's cancellation.
    scheduler.sigmas = torch.from_numpy(np.append(karras(num_steps), 0.0))
    theirs = theirs_of(scheduler, monkeypatch, wavy, float(scheduler.sigmas[0]))
    solver = dpm_solver(EXPLODING, karras(num_steps), **ours)
    ours = ours_of_network(solver, EXPLODING, wavy, preconditioned())
    agree_from_end_to_end(ours, theirs, times_tolerance=1e-4)


@pytest.mark.parametrize("solver", [dpm_solver, dpm_solver_singlestep, uni_pc])
def test_refuses_orders_that_there_are_not(solver):
    with pytest.raises(GenaxError, match=r"order=4 has to be 1, 2 or 3"):
        solver(PROCESS, trailing(1000, 9), 4)


@pytest.mark.parametrize("wrong", [{"predictor_order": 0}, {"corrector_order": 5}])
def test_sa_solver_refuses_orders_that_there_are_not(wrong):
    with pytest.raises(GenaxError, match="have to be from 1 to 4"):
        sa_solver(PROCESS, trailing(1000, 9), **wrong)


@pytest.mark.parametrize(
    ("solver", "settings"),
    [
        (dpm_solver, {"of_noise": True}),
        (dpm_solver_singlestep, {"of_noise": True}),
        (dpm_solver_singlestep, {"lower_order_final": False}),
        (uni_pc, {"of_noise": True}),
        (uni_pc, {"lower_order_final": False}),
        (sa_solver, {"of_noise": True}),
        (sa_solver, {"lower_order_final": False}),
    ],
)
def test_refuses_to_extrapolate_to_the_data(solver, settings):
    with pytest.raises(GenaxError, match="an end"):
        solver(PROCESS, trailing(1000, 10), **settings)


def test_single_steps_are_whole_without_a_lower_order():
    with pytest.raises(GenaxError, match="a multiple of 3 times, got 10"):
        dpm_solver_singlestep(PROCESS, trailing(1000, 10), 3, lower_order_final=False, end=0)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_refuses_more_noise_than_there_is(eta):
    with pytest.raises(GenaxError, match=f"eta={eta} has to be from 0 to 1"):
        dpm_solver_2s(EXPLODING, karras(5), eta)


@pytest.mark.parametrize("solver", [dpm_solver, dpm_solver_singlestep, uni_pc, sa_solver])
def test_refuses_times_without_noise_or_signal(solver):
    with pytest.raises(GenaxError, match=r"no noise at time 0\.0"):
        solver(EXPLODING, np.array([3.0, 1.0, 0.0]))
    with pytest.raises(GenaxError, match=r"no signal at time 1\.0"):
        solver(LinearFlow(), np.array([1.0, 0.5]))
    with pytest.raises(GenaxError, match=r"no noise at the end 0\.0"):
        solver(EXPLODING, np.array([3.0, 1.0]), end=0.0)


@pytest.mark.parametrize("solver", [dpm_solver_2s, dpm_solver_sde])
def test_two_evaluations_need_the_time_between(solver):
    with pytest.raises(GenaxError, match="NoiseLevels has no method time_of"):
        solver(NoiseLevels(), np.array([9, 5]))


@pytest.mark.parametrize("solver", [dpm_solver, uni_pc, sa_solver])
def test_an_end_at_the_last_time_changes_nothing_more(solver):
    """The samples are those of a step from which nothing is left to go, without NaN."""
    times = karras(6)
    *_, samples = ours_of(solver(EXPLODING, times, end=times[-1]), lambda x, time: jnp.tanh(x))
    assert np.isfinite(samples).all()


def test_a_solver_may_be_made_within_jit():
    def solve(noise):
        return dpm_solver(EXPLODING, karras(5))(lambda x, time: x / 2, noise, None)

    np.testing.assert_allclose(jax.jit(solve)(NOISE), solve(NOISE), rtol=1e-5)
