"""Schedulers of diffusers: our solver of a configuration beside theirs, and the way back."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.diffusion.linear_flow import LinearFlow
from genax.diffusion.predictions import EPSILON_AND_VARIANCE, VELOCITY, V
from genax.diffusion.process import DiscreteProcess
from genax.diffusion.schedules import cosine_betas, linear_betas
from genax.diffusion.variance_exploding import VarianceExploding
from genax.interop.made_scheduler import make_scheduler
from genax.interop.schedulers import SCHEDULERS, load_scheduler, scheduler_config
from tests.diffusion.side_by_side import (
    ROUGH,
    agree_from_end_to_end,
    in_float64,
    ours_of_network,
    theirs_of,
    theirs_of_karras_ve,
    theirs_of_score_sde_ve,
    theirs_of_score_sde_vp,
    wave,
    with_tensors,
)
from tests.parity import require

STEPS = 10


def read(name, settings):
    return load_scheduler({"_class_name": name, "_diffusers_version": "0.42.1", **settings})


def ours_of(scheduler, output=wave):
    parts = scheduler.process, output, scheduler.prediction, scheduler.clip
    return ours_of_network(scheduler.solver(STEPS), *parts)


def first_factor(ours, scheduler):
    """Their first noise over ours, which has the units of our process."""
    [torch] = require("torch")
    if isinstance(ours.process, DiscreteProcess):
        scale = getattr(scheduler, "scale_model_input", lambda x, timestep: x)
        return 1 / float(scale(torch.ones(1), scheduler.timesteps[0]))
    return float(ours.process.prior(jnp.asarray(ours.times(STEPS)[:1]))[0])


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
# One of each class runs daily.
FIRST = {name: number for number, (name, _) in reversed([*enumerate(CASES)])}
LONG = [
    case if FIRST[case[0]] == number else pytest.param(*case, marks=pytest.mark.long)
    for number, case in enumerate(CASES)
]


@pytest.mark.filterwarnings(ROUGH)
@pytest.mark.parametrize(("name", "settings"), LONG)
def test_the_solver_of_a_configuration_is_theirs(name, settings, monkeypatch):
    _, diffusers = require("torch", "diffusers")
    scheduler = getattr(diffusers, name)(**settings)
    ours = read(name, settings)
    if isinstance(ours.process, DiscreteProcess):
        in_float64(scheduler, ours.process)
    scheduler.set_timesteps(STEPS)
    if name == "SASolverScheduler":
        scheduler.tau_func = with_tensors(scheduler.tau_func)
    clipped = {"use_clipped_model_output": True} if name == "DDIMScheduler" else {}
    theirs = theirs_of(scheduler, monkeypatch, factor=first_factor(ours, scheduler), **clipped)
    tolerance = 0.1 if name == "DPMSolverSDEScheduler" else 2e-3
    agree_from_end_to_end(ours_of(ours), theirs, times_tolerance=tolerance)


@pytest.mark.parametrize("name", ["DPMSolverSDEScheduler", "HeunDiscreteScheduler"])
def test_fractional_timesteps_have_the_noise_of_theirs(name):
    _, diffusers = require("torch", "diffusers")
    scheduler = getattr(diffusers, name)()
    scheduler.set_timesteps(7)
    ours = read(name, {})
    times = jnp.asarray(ours.times(7), jnp.float32)
    assert (times % 1 > 0.1).any()
    ratios = ours.process.sigma(times) / ours.process.signal(times)
    np.testing.assert_allclose(ratios, scheduler.sigmas[[0, *range(1, 12, 2)]], rtol=2e-4)


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


@pytest.mark.parametrize(
    ("process", "prediction", "kind", "said"),
    [
        (DiscreteProcess(cosine_betas(40)), V, "DDIMScheduler", "v_prediction"),
        (DiscreteProcess(linear_betas()), EPSILON_AND_VARIANCE, "", "epsilon"),
        (LinearFlow(shift=3.0), VELOCITY, "", None),
    ],
)
def test_a_process_becomes_a_scheduler_of_diffusers(process, prediction, kind, said):
    """Which has its betas, or its times."""
    _, diffusers = require("torch", "diffusers")
    ours = make_scheduler(process, prediction, kind)
    settings = scheduler_config(ours)
    assert settings.get("prediction_type") == said
    theirs = getattr(diffusers, settings["_class_name"]).from_config(settings)
    theirs.set_timesteps(STEPS)
    if isinstance(process, DiscreteProcess):
        np.testing.assert_allclose(theirs.betas, process.betas, rtol=1e-6)
        np.testing.assert_array_equal(ours.process.betas, process.betas)
        assert ours.prediction.learns_variance == prediction.learns_variance
    else:
        np.testing.assert_allclose(theirs.sigmas[:-1], ours.times(STEPS), rtol=1e-5)


def test_what_diffusers_has_no_scheduler_for_is_refused():
    with pytest.raises(GenaxError, match="no scheduler of diffusers is written for a Variance"):
        make_scheduler(VarianceExploding())
    with pytest.raises(GenaxError, match="those of a chain are epsilon, sample, v_prediction"):
        make_scheduler(DiscreteProcess(linear_betas()), VELOCITY)


def test_score_sde_ve(monkeypatch):
    """The network gets the sigma of each step; the pipeline of diffusers gives nearly the same."""
    _, diffusers = require("torch", "diffusers")

    def score(x, sigma):
        return (x / (1 + x**2) ** 0.5 - x) / sigma**2

    scheduler = diffusers.ScoreSdeVeScheduler(sigma_max=50.0)
    theirs = theirs_of_score_sde_ve(scheduler, STEPS, monkeypatch, score)
    ours = ours_of(read("ScoreSdeVeScheduler", {"sigma_max": 50.0}), score)
    agree_from_end_to_end(ours, theirs, times_tolerance=1e-4)


def test_score_sde_vp(monkeypatch):
    require("torch", "diffusers")
    from diffusers.schedulers.deprecated.scheduling_sde_vp import ScoreSdeVpScheduler

    seen, times, samples = theirs_of_score_sde_vp(
        ScoreSdeVpScheduler(beta_max=10), STEPS, monkeypatch, lambda x, t: wave(x, 999 * t)
    )
    theirs = seen, [999 * time for time in times], samples
    ours = ours_of(read("ScoreSdeVpScheduler", {"beta_max": 10}))
    agree_from_end_to_end(ours, theirs, times_tolerance=1e-2)


def test_karras_ve(monkeypatch):
    require("torch", "diffusers")
    from diffusers.schedulers.deprecated.scheduling_karras_ve import KarrasVeScheduler

    settings = {"sigma_max": 9.0, "s_churn": 3.0}
    scheduler = KarrasVeScheduler(**settings)
    scheduler.set_timesteps(STEPS)
    theirs = theirs_of_karras_ve(scheduler, monkeypatch, wave)
    ours = ours_of(read("KarrasVeScheduler", settings))
    agree_from_end_to_end(ours, theirs, times_tolerance=1e-4)


OTHERS = {
    "ScoreSdeVeScheduler": {"snr": 0.2, "correct_steps": 2},
    "ScoreSdeVpScheduler": {"beta_min": 0.2},
    "KarrasVeScheduler": {"s_noise": 1.0},
}


def test_every_class_is_compared():
    assert {name for name, _ in CASES} | set(OTHERS) == set(SCHEDULERS)


@pytest.mark.parametrize("name", OTHERS)
def test_a_configuration_of_a_score_model_comes_back(name):
    ours = read(name, OTHERS[name])
    assert scheduler_config(ours) == {"_class_name": name, **OTHERS[name]}
    again = load_scheduler(scheduler_config(ours))
    assert again.process == ours.process
    np.testing.assert_array_equal(again.times(STEPS), ours.times(STEPS))


def test_reads_a_directory(tmp_path):
    path = tmp_path / "scheduler_config.json"
    with pytest.raises(GenaxError, match=r"scheduler_config\.json is missing"):
        load_scheduler(tmp_path)
    settings = {"_class_name": "DDIMScheduler", "num_train_timesteps": 100}
    path.write_text(json.dumps(settings))
    scheduler = load_scheduler(tmp_path)
    assert scheduler.process.num_timesteps == 100
    assert scheduler_config(scheduler) == settings


def test_reads_a_schedule_of_ones_own():
    betas = [0.1, 0.2, 0.3]
    scheduler = read("DDPMScheduler", {"trained_betas": betas, "num_train_timesteps": 3})
    np.testing.assert_array_equal(scheduler.process.betas, betas)


@pytest.mark.parametrize("name", ["DDPMScheduler", "DPMSolverMultistepScheduler"])
def test_a_network_may_learn_variances(name):
    assert read(name, {"variance_type": "learned_range"}).prediction.learns_variance
    assert not read(name, {}).prediction.learns_variance


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("MadeUpScheduler", {}, "_class_name='MadeUpScheduler'"),
        ("DDIMScheduler", {"made_up": 3}, "made_up=3"),
        ("DDIMScheduler", {"beta_schedule": "made_up"}, "beta_schedule='made_up'"),
        ("DDIMScheduler", {"prediction_type": "flow_prediction"}, "prediction_type='flow_pred"),
        ("DDIMScheduler", {"timestep_spacing": "linspace"}, "timestep_spacing='linspace'"),
        ("DDIMScheduler", {"beta_start": "small"}, "beta_start='small'"),
        ("DDPMScheduler", {"variance_type": "learned"}, "variance_type='learned'"),
        ("DDIMInverseScheduler", {}, "clip_sample=True"),
        ("PNDMScheduler", {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr=True"),
        ("EulerDiscreteScheduler", {"use_beta_sigmas": True}, "use_beta_sigmas=True"),
        ("EulerDiscreteScheduler", {"sigma_max": 700.0}, r"sigma_max=700\.0"),
        ("EulerDiscreteScheduler", {"timestep_type": "continuous"}, "timestep_type='continuous'"),
        (
            "EulerDiscreteScheduler",
            {"use_karras_sigmas": True, "use_exponential_sigmas": True},
            "use_karras_sigmas and use_exponential_sigmas",
        ),
        (
            "DPMSolverMultistepScheduler",
            {"solver_order": 3, "algorithm_type": "sde-dpmsolver++"},
            "solver_order=3 for a stochastic algorithm",
        ),
        (
            "DPMSolverMultistepScheduler",
            {"use_karras_sigmas": True, "beta_schedule": "squaredcos_cap_v2"},
            "squaredcos_cap_v2",
        ),
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True}, "use_flow_sigmas=True"),
        ("UniPCMultistepScheduler", {"solver_p": {"made": "up"}}, "solver_p="),
        ("UniPCMultistepScheduler", {"thresholding": True, "predict_x0": False}, "thresholding"),
        ("EDMEulerScheduler", {"prediction_type": "sample"}, "prediction_type='sample'"),
        ("FlowMatchEulerDiscreteScheduler", {"shift_terminal": 0.1}, r"shift_terminal=0\.1"),
        ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}, "invert_sigmas=True"),
    ],
)
def test_refuses_by_name_what_may_change_the_result(name, settings, said):
    with pytest.raises(GenaxError, match=said):
        read(name, settings)


@pytest.mark.parametrize("num_steps", [0, 100, 500])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_refuses_more_steps_than_there_are(name, spacing, num_steps):
    scheduler = read(name, {"num_train_timesteps": 100, "timestep_spacing": spacing})
    assert len(scheduler.times(20)) == 20
    with pytest.raises(GenaxError, match=f"{num_steps} steps and their end; choose from 1 to 99"):
        scheduler.solver(num_steps)


@pytest.mark.parametrize("betas", [[0.1, 0.2], [0.1, "big", 0.2], "big"])
def test_refuses_betas_that_are_none(betas):
    with pytest.raises(GenaxError, match="trained_betas="):
        read("DDIMScheduler", {"trained_betas": betas, "num_train_timesteps": 3})
