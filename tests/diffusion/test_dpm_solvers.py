"""The DPM-Solver family, UniPC and SA-Solver: as diffusers has them, step for step."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.diffusion.solvers.dpm_solver import dpm_solver, dpm_solver_singlestep
from genax.diffusion.solvers.dpm_solver_sde import dpm_solver_2s, dpm_solver_sde
from genax.diffusion.solvers.sa_solver import sa_solver
from genax.diffusion.solvers.uni_pc import uni_pc
from genax.diffusion.spacings import karras, trailing
from genax.diffusion.variance_exploding import VarianceExploding
from genax.diffusion.predictions import CLEAN
from tests.diffusion.test_solvers import MORE_NOISE, NOISE, agree, in_float64, wavy
from tests.diffusion.toys import PROCESS
from tests.parity import require

EXPLODING = VarianceExploding()
STEPS = [10, 25, 50]
ROUGH = "ignore:.*is deprecated and will be removed:FutureWarning"


def steps_of(solver):
    """What the solver shows to the network at each of its calls, with the time, and its samples.

    The network predicts clean samples, since predicted noise would multiply rounding by 150.
    """
    seen = []

    def denoise(x, time):
        jax.debug.callback(lambda *pair: seen.append(pair), x, time, ordered=True)
        return wavy(x, time)

    samples = jax.jit(
        lambda: solver(denoise, NOISE, lambda number: jnp.asarray(MORE_NOISE)[number])
    )()
    samples.block_until_ready()
    jax.effects_barrier()
    return [np.asarray(x) for x, _ in seen], [float(time) for _, time in seen], np.asarray(samples)


def theirs_of(torch, scheduler, num_steps, monkeypatch):
    """What a scheduler of diffusers shows to the network, at which times, and its samples."""
    in_float64(torch, scheduler)
    scheduler.set_timesteps(num_steps)
    # Their coefficients without float32's cancellation, too.
    ratios = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt()
    last = ratios[:1] if scheduler.sigmas[-1] else torch.zeros(1)
    scheduler.sigmas = torch.cat([ratios[scheduler.timesteps], last])
    drawn = iter(torch.from_numpy(MORE_NOISE[1:]))
    module = inspect.getmodule(type(scheduler))
    if hasattr(module, "randn_tensor"):
        monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: next(drawn))
    x, seen = torch.from_numpy(np.array(NOISE)), []
    for timestep in scheduler.timesteps:
        seen.append(x.numpy())
        x = scheduler.step(wavy(x, timestep), timestep, x).prev_sample
    return seen, x.numpy()


def agree_from_end_to_end(scheduler, solver, num_steps, monkeypatch):
    [torch] = require("torch")
    seen, samples = theirs_of(torch, scheduler, num_steps, monkeypatch)
    ours, times, mine = steps_of(solver(np.array(scheduler.timesteps)))
    np.testing.assert_array_equal(times, scheduler.timesteps)
    agree([*ours, mine], [*seen, samples], 1e-4)


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
    agree_from_end_to_end(
        scheduler, lambda times: dpm_solver(PROCESS, times, **ours), num_steps, monkeypatch
    )


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
    agree_from_end_to_end(
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
    agree_from_end_to_end(
        scheduler, lambda times: uni_pc(PROCESS, times, **ours), num_steps, monkeypatch
    )


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
    if "tau_func" not in settings:
        # They compute with a tensor's time, and need a tensor back.
        [torch] = require("torch")
        tau = scheduler.tau_func
        scheduler.tau_func = lambda time: torch.tensor(float(tau(time)))
    else:
        [torch] = require("torch")
        scheduler.tau_func = lambda time: torch.tensor(0.0)
    agree_from_end_to_end(
        scheduler, lambda times: sa_solver(PROCESS, times, end=0, **ours), num_steps, monkeypatch
    )
