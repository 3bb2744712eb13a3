"""A solver of ours beside a scheduler of diffusers, evaluation by evaluation.

Both sides are told by what the network gets at each call, at which times, and by the samples.
"""

from __future__ import annotations

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.diffusion.predictions import EPSILON, at_times, predict_clean
from tests.diffusion.toys import MORE_NOISE, NOISE, PROCESS
from tests.parity import require

ROUGH = "ignore:.*is deprecated and will be removed:FutureWarning"


def wave(x, time):
    """An output whose slope is below 1: a steeper one would multiply rounding."""
    angle = x / 2 + time / 100
    return jnp.sin(angle) if isinstance(angle, jax.Array) else angle.sin()


def wavy(x, time):
    """An output that is a bounded function of everything, of jax's arrays and torch's alike."""
    angle = 3 * x + time / 100
    return jnp.sin(angle) if isinstance(angle, jax.Array) else angle.sin()


def watched(function, seen):
    """The function of samples and a time, which appends both to a list."""

    def call(x, time):
        jax.debug.callback(lambda *pair: seen.append(pair), x, time, ordered=True)
        return function(x, time)

    return call


def shown_by(solver, denoise, seen):
    """Our side, of a denoising function that fills the list."""
    samples = jax.jit(lambda: solver(denoise, NOISE, lambda number: jnp.array(MORE_NOISE)[number]))
    samples = samples().block_until_ready()
    jax.effects_barrier()
    return [np.asarray(x) for x, _ in seen], [float(time) for _, time in seen], np.asarray(samples)


def ours_of(solver, clean):
    """Our side, of a function to the clean samples to expect, which is in the network's place."""
    seen = []
    return shown_by(solver, watched(clean, seen), seen)


def ours_of_network(solver, process, output, prediction=EPSILON, clip=False):
    """Our side, of a network with such an output."""
    seen = []
    network = watched(output, seen)
    call = at_times(lambda x, times: network(x, times[0]), process, prediction)

    def denoise(x, time):
        times = jnp.full(len(x), time)
        return predict_clean(process, prediction, call(x, times), x, times, clip)

    return shown_by(solver, denoise, seen)


def give_noise(scheduler, monkeypatch):
    """Let a scheduler draw the noise that our solvers draw."""
    [torch] = require("torch")
    drawn = iter(torch.from_numpy(MORE_NOISE[1:]).to(torch.get_default_dtype()))
    module = inspect.getmodule(type(scheduler))
    for name, draws in (
        ("randn_tensor", lambda *_, **__: next(drawn)),
        ("BrownianTreeNoiseSampler", lambda *_: lambda *_: next(drawn)),
    ):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, draws)


def first_noise(factor=1.0):
    [torch] = require("torch")
    return torch.from_numpy(np.array(NOISE)).to(torch.get_default_dtype()) * factor


def theirs_of(scheduler, monkeypatch, output=wave, factor=1.0, **settings):
    """Their side. The network gets what `scale_model_input` returns.

    factor: of the first noise.
    settings: further arguments of `step`.
    """
    give_noise(scheduler, monkeypatch)
    scale = getattr(scheduler, "scale_model_input", lambda x, timestep: x)
    x, seen = first_noise(factor), []
    for timestep in scheduler.timesteps:
        scaled = scale(x, timestep).float()
        seen.append(scaled.numpy())
        x = scheduler.step(output(scaled, timestep), timestep, x, **settings).prev_sample.float()
    return seen, [float(timestep) for timestep in scheduler.timesteps], x.numpy()


def theirs_of_karras_ve(scheduler, monkeypatch, output):
    """Their side of KarrasVeScheduler, whose pipeline corrects all steps but the last."""
    [torch] = require("torch")
    give_noise(scheduler, monkeypatch)
    levels = [*(float(scheduler.schedule[t]) for t in scheduler.timesteps), 0.0]
    x, seen, times = first_noise(levels[0]), [], []
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
    return seen, times, x.numpy()


def theirs_of_score_sde_ve(scheduler, num_steps, monkeypatch, score):
    """Their side of ScoreSdeVeScheduler with one correction at each time.

    score: (samples, sigma) -> the network's output.
    """
    scheduler.set_timesteps(num_steps)
    scheduler.set_sigmas(num_steps)
    give_noise(scheduler, monkeypatch)
    x, seen, times = first_noise(scheduler.init_noise_sigma), [], []
    for sigma, t in zip(scheduler.discrete_sigmas.flip(0), scheduler.timesteps, strict=True):
        seen.append(x.numpy())
        x = scheduler.step_correct(score(x, sigma), x).prev_sample
        seen.append(x.numpy())
        step = scheduler.step_pred(score(x, sigma), t, x)
        x = step.prev_sample
        times += [float(sigma)] * 2
    return seen, times, step.prev_sample_mean.numpy()


def theirs_of_score_sde_vp(scheduler, num_steps, monkeypatch, output):
    """Their side of ScoreSdeVpScheduler.

    output: (samples, time) -> the network's prediction of noise.
    """
    scheduler.set_timesteps(num_steps)
    give_noise(scheduler, monkeypatch)
    x, seen = first_noise(), []
    for t in scheduler.timesteps:
        seen.append(x.numpy())
        x, mean = scheduler.step_pred(output(x, t), x, t.repeat(len(x)))
    return seen, [float(t) for t in scheduler.timesteps], mean.numpy()


def in_float64(scheduler, process=PROCESS):
    """Their tables without float32's cancellation in 1 - alphas_cumprod (1e-4 of the result)."""
    [torch] = require("torch")
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


def with_tensors(tau):
    """A function of time for SASolverScheduler, which computes with tensors and needs one back."""
    [torch] = require("torch")
    return lambda time: torch.tensor(float(tau(time)))


def agree(ours, theirs, tolerance):
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        scale = 1 + np.abs(other).max()
        assert np.abs(mine - other).max() < tolerance * scale, number


def agree_from_end_to_end(ours, theirs, tolerance=1e-4, times_tolerance=None):
    """Compare both sides, without drawing ours nearer to theirs on the way.

    times_tolerance: None for times that are equal.
    """
    if times_tolerance is None:
        assert ours[1] == theirs[1]
    for found, expected in zip(ours[1], theirs[1], strict=True):
        assert found == pytest.approx(expected, rel=1e-5, abs=times_tolerance or 0.0)
    agree([*ours[0], ours[2]], [*theirs[0], theirs[2]], tolerance)
