"""The Gaussian process: its identities, and diffusers' DDPMScheduler."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.diffusion.linear_flow import LinearFlow
from genax.diffusion.predictions import CLEAN, EPSILON, V, predict_clean
from genax.diffusion.process import (
    DiscreteProcess,
    Invertible,
    Process,
    expand,
    factors,
    fixed_large,
    fixed_small,
    q_sample,
)
from genax.diffusion.schedules import linear_betas
from genax.diffusion.solvers.steps import Level, noise_in
from genax.diffusion.variance_exploding import GeometricExploding, VarianceExploding
from genax.diffusion.variance_preserving import SubVariancePreserving, VariancePreserving
from tests.diffusion.toys import PROCESS
from tests.parity import require

STEPS = jnp.arange(1000)
EXPLODING = VarianceExploding()
RNG = np.random.default_rng(0)
CLEAN_IMAGE, NOISE = jnp.asarray(RNG.uniform(-1, 1, (2, 1000, 2, 2, 1)), jnp.float32)


def test_variance_is_preserved_and_signal_falls():
    signal, sigma = np.asarray(PROCESS.signal(STEPS)), np.asarray(PROCESS.sigma(STEPS))
    np.testing.assert_allclose(signal**2 + sigma**2, 1, atol=2e-7)
    assert np.all(np.diff(signal) < 0)
    assert PROCESS.alphas_cumprod[-1] == pytest.approx(4.0358e-5, rel=1e-4)


def test_the_marginal_is_that_of_single_steps():
    """q(x_t | x_0) follows from composing q(x_t | x_{t-1}), eq. 2 and 4."""
    mean, variance = 1.0, 0.0
    for step, beta in enumerate(PROCESS.betas):
        mean, variance = mean * np.sqrt(1 - beta), variance * (1 - beta) + beta
        if step in (0, 1, 500, 999):
            assert mean**2 == pytest.approx(PROCESS.alphas_cumprod[step], rel=1e-9)
            assert variance == pytest.approx(1 - PROCESS.alphas_cumprod[step], rel=1e-9)


def test_the_posterior_is_bayes_rule():
    """q(x_{t-1} | x_t, x_0), by completing the square of q(x_t | x_{t-1}) q(x_{t-1} | x_0)."""
    steps = STEPS[1:]
    noisy = q_sample(PROCESS, CLEAN_IMAGE, NOISE, STEPS)
    before = PROCESS.alphas_cumprod_before[1:, None, None, None]
    beta = PROCESS.betas[1:, None, None, None]
    precision = (1 - beta) / beta + 1 / (1 - before)
    pull = np.sqrt(1 - beta) / beta * noisy[1:] + np.sqrt(before) / (1 - before) * CLEAN_IMAGE[1:]
    mean = PROCESS.posterior_mean(CLEAN_IMAGE, noisy, STEPS)[1:]
    np.testing.assert_allclose(mean, pull / precision, atol=2e-5)
    np.testing.assert_allclose(PROCESS.posterior_variance[steps], 1 / precision[:, 0, 0, 0])
    assert PROCESS.posterior_variance[0] == 0
    np.testing.assert_allclose(
        PROCESS.posterior_mean(CLEAN_IMAGE, noisy, STEPS)[0], CLEAN_IMAGE[0], atol=1e-6
    )


def test_predictions_invert_the_corruption():
    noisy = q_sample(PROCESS, CLEAN_IMAGE, NOISE, STEPS)
    clean = predict_clean(PROCESS, EPSILON, NOISE, noisy, STEPS)
    signal = np.asarray(PROCESS.signal(STEPS))[:, None, None, None]
    np.testing.assert_allclose(clean * signal, CLEAN_IMAGE * signal, atol=1e-6)
    level = Level(STEPS, *factors(PROCESS, STEPS, noisy))
    np.testing.assert_allclose(noise_in(noisy, CLEAN_IMAGE, level), NOISE, atol=1e-4)
    clipped = predict_clean(PROCESS, EPSILON, 5 * NOISE, noisy, STEPS, clip=True)
    assert np.abs(clipped).max() == 1


@pytest.mark.parametrize("prediction", [EPSILON, CLEAN, V], ids=["noise", "clean", "v"])
def test_a_target_stands_for_its_clean_image(prediction):
    noisy = q_sample(PROCESS, CLEAN_IMAGE, NOISE, STEPS)
    signal, sigma = (expand(f(STEPS), noisy) for f in (PROCESS.signal, PROCESS.sigma))
    target = prediction.target(CLEAN_IMAGE, NOISE, signal, sigma)
    clean = predict_clean(PROCESS, prediction, target, noisy, STEPS)
    np.testing.assert_allclose(clean * signal, CLEAN_IMAGE * signal, atol=1e-6)


def test_continuous_times_are_log_normal_and_the_noise_itself():
    """Karras et al. 2022, table 1: ln(sigma) ~ N(-1.2, 1.2^2), and sigma is the time."""
    times = jax.vmap(EXPLODING.sample_time)(jax.random.split(jax.random.key(0), 20_000))
    assert jnp.issubdtype(times.dtype, jnp.floating)
    assert np.log(times).mean() == pytest.approx(-1.2, abs=0.03)
    assert np.log(times).std() == pytest.approx(1.2, abs=0.03)
    noisy = q_sample(EXPLODING, CLEAN_IMAGE, NOISE, times[:1000])
    np.testing.assert_array_equal(noisy, CLEAN_IMAGE + expand(times[:1000], NOISE) * NOISE)


@pytest.mark.parametrize("process", [PROCESS, EXPLODING], ids=["discrete", "continuous"])
def test_processes_have_the_members_of_the_protocol(process):
    members = {name for name in vars(Process) if not name.startswith("_")}
    assert members == {"sample_time", "signal", "sigma", "prior"}
    assert isinstance(process, Process)
    times = jax.vmap(process.sample_time)(jax.random.split(jax.random.key(0), 3))
    for values in (process.signal(times), process.sigma(times), process.prior(times)):
        assert values.shape == (3,)
        assert values.dtype == jnp.float32


@pytest.mark.parametrize("interpolation", ["log", "linear"])
def test_fractional_timesteps_interpolate_the_ratio_of_noise_to_signal(interpolation):
    process = DiscreteProcess(linear_betas(), interpolation)
    whole = STEPS.astype(float)
    np.testing.assert_allclose(process.signal(whole), process.signal(STEPS), rtol=2e-6)
    np.testing.assert_allclose(process.sigma(whole), process.sigma(STEPS), rtol=2e-6)
    half = whole[:-1] + 0.5
    signal, sigma = np.asarray(process.signal(half)), np.asarray(process.sigma(half))
    np.testing.assert_allclose(signal**2 + sigma**2, 1, atol=1e-6)
    ends = np.sqrt(1 / process.alphas_cumprod - 1)
    ends = ends[:-1], ends[1:]
    middle = np.sqrt(ends[0] * ends[1]) if interpolation == "log" else (ends[0] + ends[1]) / 2
    np.testing.assert_allclose(sigma / signal, middle, rtol=3e-6)
    np.testing.assert_allclose(process.time_of(jnp.asarray(middle)), half, atol=3e-3)
    assert process.time_of(jnp.asarray([1e-9, 1e9])).tolist() == [0, 999]


@pytest.mark.parametrize(
    "process",
    [
        EXPLODING,
        GeometricExploding(),
        VariancePreserving(),
        SubVariancePreserving(),
        LinearFlow(),
    ],
    ids=lambda process: type(process).__name__,
)
def test_a_process_finds_the_time_of_an_amount_of_noise(process):
    times = jnp.linspace(0.05, 0.95, 19)
    ratios = process.sigma(times) / process.signal(times)
    assert isinstance(process, Invertible)
    np.testing.assert_allclose(process.time_of(ratios), times, rtol=1e-5)


def test_refuses_an_unknown_interpolation():
    with pytest.raises(GenaxError, match="neither 'log' nor 'linear'"):
        DiscreteProcess(linear_betas(), "cubic")


def test_times_are_uniform():
    times = jax.vmap(PROCESS.sample_time)(jax.random.split(jax.random.key(0), 20_000))
    assert times.min() == 0
    assert times.max() == 999
    counts = np.bincount(np.asarray(times) // 100, minlength=10)
    assert np.all(np.abs(counts - 2000) < 200)


@pytest.mark.parametrize("betas", [[], [1.0, 0.1], [0.1, 1.1], [0.0], [-0.1], [[0.1]], [np.nan]])
def test_refuses_what_is_no_variance(betas):
    with pytest.raises(GenaxError, match="between 0 and 1"):
        DiscreteProcess(np.array(betas))


def test_agrees_with_diffusers_at_all_timesteps():
    torch, diffusers = require("torch", "diffusers")
    scheduler = diffusers.DDPMScheduler(beta_schedule="linear", variance_type="fixed_small")
    expected = scheduler.add_noise(
        *(torch.tensor(np.array(x)) for x in (CLEAN_IMAGE, NOISE, STEPS))
    )
    noisy = q_sample(PROCESS, CLEAN_IMAGE, NOISE, STEPS)
    np.testing.assert_allclose(noisy, expected, atol=1e-5)
    np.testing.assert_allclose(linear_betas(), scheduler.betas, rtol=1e-6)
    small = np.array([scheduler._get_variance(step) for step in range(1, 1000)])
    np.testing.assert_allclose(fixed_small(PROCESS)[1:], small, rtol=2e-3, atol=1e-8)
    large = np.array(
        [scheduler._get_variance(step, variance_type="fixed_large") for step in range(1000)]
    )
    np.testing.assert_allclose(fixed_large(PROCESS)[1:], large[1:], rtol=2e-3)


def test_float32_tables_are_rounded_from_float64():
    """1 - alphas_cumprod at timestep 0 is 1e-4: in float32 it would have lost three digits."""
    assert PROCESS.sigma(jnp.zeros(1, int))[0] == np.float32(0.01)
