"""Samplers against diffusers' schedulers, step by step, and on data where the answer is known."""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.diffusion.predictions import EPSILON, predict_clean
from genax.diffusion.process import fixed_large, fixed_small
from genax.diffusion.samplers import (
    ancestral_sampler,
    ancestral_step,
    ddim_coefficients,
    ddim_sampler,
    ddim_step,
    leading,
    trailing,
)
from tests.cli.command import call
from tests.diffusion.toys import DEVIATION, MEAN, PROCESS, GaussianDenoiser, WavyDenoiser, run
from tests.parity import require

RNG = np.random.default_rng(0)
NOISY, OUTPUT = jnp.asarray(RNG.normal(size=(2, 1, 4, 4, 3)), jnp.float32)


def in_float64(torch, scheduler):
    """Their tables without float32's cancellation in 1 - alphas_cumprod (1e-4 of the result)."""
    scheduler.betas = torch.from_numpy(PROCESS.betas)
    scheduler.alphas = 1 - scheduler.betas
    scheduler.alphas_cumprod = torch.from_numpy(PROCESS.alphas_cumprod)


def scan_steps(step, timesteps, *tables):
    """`step`(timestep [1], *rows of the tables) at every timestep, [steps, 1, 4, 4, 3]."""
    rows = [jnp.asarray(table, jnp.float32) for table in tables]
    return jax.jit(jax.vmap(step))(jnp.asarray(timesteps)[:, None], *rows)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("kind", ["fixed_small", "fixed_large"])
def test_ancestral_steps_agree_with_diffusers(kind, clip):
    torch, diffusers = require("torch", "diffusers")
    scheduler = diffusers.DDPMScheduler(
        beta_schedule="linear", variance_type=kind, clip_sample=clip
    )
    in_float64(torch, scheduler)
    timesteps = np.arange(1000)
    deviations = np.sqrt({"fixed_small": fixed_small, "fixed_large": fixed_large}[kind](PROCESS))
    deviations[0] = 0

    def step(timestep, deviation, noise):
        clean = predict_clean(PROCESS, EPSILON, OUTPUT, NOISY, timestep, clip)
        return ancestral_step(PROCESS, NOISY, clean, timestep, deviation, noise)

    noise = np.random.default_rng(1).normal(size=(1000, *NOISY.shape)).astype(np.float32)
    ours = scan_steps(step, timesteps, deviations, noise)
    output, noisy = torch.tensor(np.array(OUTPUT)), torch.tensor(np.array(NOISY))
    for timestep in timesteps:
        torch.manual_seed(0)
        expected = scheduler.step(output, int(timestep), noisy).prev_sample
        torch.manual_seed(0)
        drawn = torch.randn(noisy.shape)
        # The same noise as theirs: ours is linear in it.
        mean = ours[timestep] - deviations[timestep] * noise[timestep]
        reached = mean + deviations[timestep] * drawn.numpy()
        scale = 1 + np.abs(expected.numpy()).max()
        assert np.abs(reached - expected.numpy()).max() < 1e-5 * scale, timestep


@pytest.mark.parametrize(
    ("eta", "clip", "spacing", "num_steps"),
    [
        (0.0, True, leading, 1000),
        (0.0, False, leading, 50),
        (1.0, True, leading, 7),
        (0.5, False, trailing, 100),
    ],
)
def test_ddim_steps_agree_with_diffusers(eta, clip, spacing, num_steps):
    torch, diffusers = require("torch", "diffusers")
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="linear", clip_sample=clip, timestep_spacing=spacing.__name__
    )
    in_float64(torch, scheduler)
    scheduler.set_timesteps(num_steps)
    timesteps = spacing(1000, num_steps)
    np.testing.assert_array_equal(timesteps, scheduler.timesteps)

    def step(timestep, coefficients, noise):
        clean = predict_clean(PROCESS, EPSILON, OUTPUT, NOISY, timestep, clip)
        return ddim_step(PROCESS, NOISY, clean, timestep, coefficients, noise)

    noise = np.random.default_rng(1).normal(size=(num_steps, *NOISY.shape)).astype(np.float32)
    coefficients = jax.tree.map(np.float32, ddim_coefficients(PROCESS, timesteps, eta))
    ours = jax.jit(jax.vmap(step))(jnp.asarray(timesteps)[:, None], coefficients, noise)
    output, noisy = torch.tensor(np.array(OUTPUT)), torch.tensor(np.array(NOISY))
    for number, timestep in enumerate(timesteps):
        expected = scheduler.step(
            output,
            int(timestep),
            noisy,
            eta=eta,
            use_clipped_model_output=True,
            variance_noise=torch.from_numpy(noise[number]) if eta else None,
        ).prev_sample.numpy()
        scale = 1 + np.abs(expected).max()
        assert np.abs(ours[number] - expected).max() < 1e-5 * scale, timestep


def test_the_whole_ddim_chain_agrees_with_diffusers():
    torch, diffusers = require("torch", "diffusers")
    scheduler = diffusers.DDIMScheduler(beta_schedule="linear", clip_sample=True)
    in_float64(torch, scheduler)
    scheduler.set_timesteps(20)
    batch = {"index": np.arange(2)}
    sampler = partial(ddim_sampler, process=PROCESS, shape=(4, 4, 1), num_steps=20)
    ours = run(sampler, WavyDenoiser(), batch)
    first = run(lambda nets, batch: first_noise(nets, batch), WavyDenoiser(), batch)
    x = torch.from_numpy(np.array(first))
    for timestep in scheduler.timesteps:
        output = torch.sin(3 * x + timestep / 100)
        x = scheduler.step(output, timestep, x, use_clipped_model_output=True).prev_sample
    np.testing.assert_allclose(ours, x.numpy(), atol=1e-4)


def first_noise(nets, batch):
    """What a sampler begins with: found by a chain whose one step returns its input."""
    from genax.diffusion import samplers

    def keep(noisy, output, timesteps, row, draw):
        return noisy

    return samplers._sample(nets, batch, keep, np.zeros(1), np.zeros(1), (4, 4, 1), lambda b: {})


def test_ddim_error_falls_at_first_order():
    """On Gaussian data the exact flow keeps each pixel's number of deviations from the mean."""
    batch = {"index": np.arange(4)}
    noise = np.asarray(run(lambda nets, batch: first_noise(nets, batch), GaussianDenoiser(), batch))
    signal, sigma = np.sqrt(PROCESS.alphas_cumprod[-1]), np.sqrt(1 - PROCESS.alphas_cumprod[-1])
    spread = np.sqrt((signal * DEVIATION) ** 2 + sigma**2)
    exact = MEAN + DEVIATION * (noise - signal * MEAN) / spread
    errors = []
    for num_steps in (50, 100, 200):
        sampler = partial(
            ddim_sampler,
            process=PROCESS,
            shape=(4, 4, 1),
            num_steps=num_steps,
            spacing=trailing,
            clip_denoised=False,
        )
        errors.append(np.abs(run(sampler, GaussianDenoiser(), batch) - exact).max())
    assert errors[0] < 0.1
    for coarse, fine in itertools.pairwise(errors):
        assert 1.7 < coarse / fine < 2.3


@pytest.mark.parametrize(
    "sampler",
    [
        partial(ancestral_sampler, variance=fixed_small),
        partial(ancestral_sampler, variance=fixed_large),
        partial(ddim_sampler, num_steps=250, eta=1.0),
    ],
)
def test_samples_have_the_distribution_of_the_data(sampler):
    sampler = partial(sampler, process=PROCESS, shape=(8, 8, 1), clip_denoised=False)
    images = run(sampler, GaussianDenoiser(), {"index": np.arange(64)})
    assert images.shape == (64, 8, 8, 1)
    assert images.mean() == pytest.approx(MEAN, abs=0.02)
    assert images.std() == pytest.approx(DEVIATION, rel=0.05)


@pytest.mark.parametrize(
    "sampler", [ancestral_sampler, partial(ddim_sampler, num_steps=10, eta=1.0)]
)
def test_a_sample_depends_on_its_index_only(sampler):
    sampler = partial(sampler, process=PROCESS, shape=(4, 4, 1))
    many = run(sampler, WavyDenoiser(), {"index": np.arange(5)})
    few = run(sampler, WavyDenoiser(), {"index": np.array([3, 1])})
    np.testing.assert_allclose(few, many[jnp.array([3, 1])], atol=1e-5)
    assert not np.allclose(many[0], many[1])
    assert not np.allclose(few, run(sampler, WavyDenoiser(), {"index": np.array([3, 1])}, seed=1))


@pytest.mark.parametrize("spacing", [leading, trailing])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 333, 999, 1000])
def test_spacings_fall_within_range(spacing, num_steps):
    timesteps = spacing(1000, num_steps)
    assert len(timesteps) == num_steps
    assert np.all(np.diff(timesteps) < 0)
    assert timesteps[-1] >= 0
    assert timesteps[0] < 1000
    if spacing is trailing:
        assert timesteps[0] == 999


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan"), float("inf")])
def test_refuses_more_noise_than_there_is(eta):
    with pytest.raises(GenaxError, match=f"eta={eta} of DDIM has to be from 0 to 1"):
        ddim_coefficients(PROCESS, leading(1000, 10), eta)


@pytest.mark.parametrize("eta", [-0.5, 1.5])
def test_noise_is_checked_when_an_experiment_is_built(eta, tmp_path):
    settings = ("--config.dataset=digits", f"--config.ddim_eta={eta}", f"--workdir={tmp_path}")
    said = call("train", "experiments/diffusion/ddpm.py:digits", *settings).refusal()
    assert f"eta={eta} of DDIM" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("num_steps", [0, 1001])
def test_refuses_steps_that_the_process_does_not_have(num_steps):
    with pytest.raises(GenaxError, match="between 1 and 1000"):
        leading(1000, num_steps)
