"""Schedulers of diffusers: our solver of a configuration beside theirs, and the way back."""

from __future__ import annotations

import inspect
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.diffusion.predictions import at_times, predict_clean
from genax.diffusion.process import DiscreteProcess
from genax.interop.schedulers import SCHEDULERS, load_scheduler, scheduler_config
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


def first_of(torch, ours, scheduler):
    """Our first noise, in the units of their scheduler."""
    if isinstance(ours.process, DiscreteProcess):
        one = torch.ones(1)
        scaled = scheduler.scale_model_input(one, scheduler.timesteps[0])
        return NOISE / float(scaled)
    return NOISE * float(ours.process.prior(jnp.asarray(ours.times(STEPS)[:1]))[0])


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
    scheduler.alphas_cumprod = torch.from_numpy(process.alphas_cumprod.copy())
    if hasattr(scheduler, "sigmas"):
        # As theirs do. A solver in sigma / signal divides by it.
        scheduler.alphas_cumprod[-1].clamp_(min=2**-24)
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
    x, seen, times = (
        torch.from_numpy(np.array(first_of(torch, ours, scheduler), np.float32)),
        [],
        [],
    )
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
# One of each class runs daily.
FIRST = {name: number for number, (name, _) in reversed([*enumerate(CASES)])}
LONG = [
    case if FIRST[case[0]] == number else pytest.param(*case, marks=pytest.mark.long)
    for number, case in enumerate(CASES)
]
ROUGH = "ignore:.*is deprecated and will be removed:FutureWarning"


def read(name, settings):
    return load_scheduler({"_class_name": name, "_diffusers_version": "0.42.1", **settings})


@pytest.mark.filterwarnings(ROUGH)
@pytest.mark.parametrize(("name", "settings"), LONG)
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


def test_score_sde_ve(monkeypatch):
    """Both go through the same sigmas. Their pipelines call the network with nearly the same."""
    torch, diffusers = require("torch", "diffusers")
    scheduler = diffusers.ScoreSdeVeScheduler(sigma_max=50.0)
    scheduler.set_timesteps(STEPS)
    scheduler.set_sigmas(STEPS)
    module = inspect.getmodule(type(scheduler))
    drawn = iter(torch.from_numpy(MORE_NOISE[1:]))
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: next(drawn))

    def score(x, sigma):
        return (x / (1 + x**2) ** 0.5 - x) / sigma**2

    x, seen, times = torch.from_numpy(NOISE) * 50.0, [], []
    for sigma, t in zip(scheduler.discrete_sigmas.flip(0), scheduler.timesteps, strict=True):
        for corrects in (True, False):
            seen.append(x.numpy())
            times.append(float(sigma))
            if corrects:
                x = scheduler.step_correct(score(x, sigma), x).prev_sample
            else:
                step = scheduler.step_pred(score(x, sigma), t, x)
        x = step.prev_sample
    ours = ours_of(read("ScoreSdeVeScheduler", {"sigma_max": 50.0}), score)
    agree(ours, (seen, times, step.prev_sample_mean.numpy()), 1e-4)


def test_score_sde_vp(monkeypatch):
    torch, _ = require("torch", "diffusers")
    from diffusers.schedulers.deprecated import scheduling_sde_vp as module

    scheduler = module.ScoreSdeVpScheduler(beta_max=10)
    scheduler.set_timesteps(STEPS)
    drawn = iter(torch.from_numpy(MORE_NOISE[1:]))
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: next(drawn))
    x, seen = torch.from_numpy(NOISE), []
    for t in scheduler.timesteps:
        seen.append(x.numpy())
        x, mean = scheduler.step_pred(wave(x, 999 * t), x, t.repeat(len(x)))
    ours = ours_of(read("ScoreSdeVpScheduler", {"beta_max": 10}))
    agree(ours, (seen, 999 * scheduler.timesteps, mean.numpy()), 1e-2)


def test_karras_ve(monkeypatch):
    torch, _ = require("torch", "diffusers")
    from diffusers.schedulers.deprecated import scheduling_karras_ve as module

    settings = {"sigma_max": 9.0, "s_churn": 3.0}
    scheduler = module.KarrasVeScheduler(**settings)
    scheduler.set_timesteps(STEPS)
    drawn = iter(torch.from_numpy(MORE_NOISE[1:]))
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: next(drawn))
    levels = [*(float(scheduler.schedule[t]) for t in scheduler.timesteps), 0.0]
    x, seen, times = torch.from_numpy(NOISE) * levels[0], [], []
    for now, after in itertools.pairwise(levels):
        raised, hat = scheduler.add_noise_to_input(x, torch.tensor(now))
        seen.append(raised.numpy())
        times.append(float(hat))
        first = scheduler.step(wave(raised, hat), hat, after, raised)
        x = first.prev_sample
        if after:
            seen.append(x.numpy())
            times.append(after)
            found = wave(x, torch.tensor(after))
            slope = first.derivative
            x = scheduler.step_correct(found, hat, after, raised, x, slope).prev_sample
    ours = ours_of(read("KarrasVeScheduler", settings))
    agree(ours, (seen, times, x.numpy()), 1e-4)


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
