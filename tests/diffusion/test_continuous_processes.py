"""Processes in continuous time: their formulas, and the stochastic equations they solve."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.diffusion.linear_flow import LinearFlow, logit_normal, shifted
from genax.diffusion.predictions import EPSILON, VELOCITY, predict_clean
from genax.diffusion.process import Invertible, Process
from genax.diffusion.solvers import ddim, euler
from genax.diffusion.solvers.predictor_corrector import euler_maruyama, predictor_corrector
from genax.diffusion.variance_exploding import GeometricExploding, NoiseLevels
from genax.diffusion.variance_preserving import SubVariancePreserving, VariancePreserving

PROCESSES = [
    VariancePreserving(),
    SubVariancePreserving(),
    GeometricExploding(),
    NoiseLevels(),
    LinearFlow(),
    LinearFlow(logit_normal(), shift=3.0),
]
TIMES = np.linspace(1e-3, 1.0, 41)


def drawn(process, num=20_000):
    keys = jax.random.split(jax.random.key(0), num)
    return np.asarray(jax.jit(jax.vmap(process.sample_time))(keys))


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_members_of_the_protocol(process):
    assert isinstance(process, Process)
    times = jnp.asarray(drawn(process, 1000))
    for values in (process.signal(times), process.sigma(times), process.prior(times)):
        assert values.shape == (1000,)
        assert values.dtype == jnp.float32
        assert np.all(np.isfinite(values))
    order = np.argsort(times)
    assert np.all(np.diff(np.asarray(process.sigma(times))[order]) >= 0)


@pytest.mark.parametrize(
    "process",
    [process for process in PROCESSES if not isinstance(process, NoiseLevels)],
    ids=lambda process: type(process).__name__,
)
def test_the_time_of_an_amount_of_noise(process):
    assert isinstance(process, Invertible)
    times = jnp.asarray(np.append(np.geomspace(1e-3, 0.99, 30), 0.5), jnp.float32)
    ratios = process.sigma(times) / process.signal(times)
    np.testing.assert_allclose(process.time_of(ratios), times, rtol=1e-4)


def marginals(drift, diffusion, times, num_steps=200_000):
    """Signal and sigma of dx = drift(t) x dt + diffusion(t) dw, by Heun's method in float64."""
    grid = np.linspace(0, 1, num_steps + 1)
    width = grid[1]
    rate, growth = drift(grid), diffusion(grid) ** 2
    exponent = np.append(0, np.cumsum((rate[1:] + rate[:-1]) / 2 * width))
    signal = np.exp(exponent)
    ratio = growth / signal**2
    variance = signal**2 * np.append(0, np.cumsum((ratio[1:] + ratio[:-1]) / 2 * width))
    return np.interp(times, grid, signal), np.sqrt(np.interp(times, grid, variance))


def beta(t):
    return 0.1 + t * 19.9


@pytest.mark.parametrize(
    ("process", "drift", "diffusion", "start"),
    [
        (VariancePreserving(), lambda t: -beta(t) / 2, lambda t: np.sqrt(beta(t)), 0.0),
        (
            SubVariancePreserving(),
            lambda t: -beta(t) / 2,
            lambda t: np.sqrt(beta(t) * (1 - np.exp(-2 * 0.1 * t - 19.9 * t**2))),
            0.0,
        ),
        (
            GeometricExploding(),
            lambda t: 0 * t,
            lambda t: 0.02 * 5000**t * np.sqrt(2 * np.log(5000)),
            0.02,
        ),
    ],
    ids=["vp", "sub-vp", "ve"],
)
def test_marginals_are_those_of_the_stochastic_equation(process, drift, diffusion, start):
    """Song et al. 2021, eq. 9, 11 and 12; the VE SDE begins with sigma_min."""
    signal, sigma = marginals(drift, diffusion, TIMES)
    at = jnp.asarray(TIMES, jnp.float32)
    np.testing.assert_allclose(process.signal(at), signal, rtol=2e-5)
    np.testing.assert_allclose(process.sigma(at), np.sqrt(sigma**2 + start**2), rtol=2e-5)


def test_the_chain_of_ddpm_is_a_discretisation():
    """1000 betas from 1e-4 to 0.02 are beta(t) / 1000."""
    betas = np.linspace(1e-4, 0.02, 1000)
    signal = np.sqrt(np.cumprod(1 - betas))[[9, 99, 499]]
    at = jnp.asarray([0.01, 0.1, 0.5])
    np.testing.assert_allclose(VariancePreserving().signal(at), signal, rtol=5e-3)


def test_small_noise_is_exact():
    """1 - signal^2 would have lost all digits at this time."""
    at = jnp.asarray([1e-5])
    exact = 1e-5 * 0.1 + 1e-10 * 19.9 / 2
    np.testing.assert_allclose(VariancePreserving().sigma(at), np.sqrt(exact), rtol=1e-5)
    np.testing.assert_allclose(SubVariancePreserving().sigma(at), exact, rtol=1e-5)


def test_noise_levels_are_geometric_and_the_ends_exact():
    process = NoiseLevels()
    ratios = process.sigmas[1:] / process.sigmas[:-1]
    np.testing.assert_allclose(ratios, 100 ** (1 / 9))
    np.testing.assert_allclose(process.sigma(jnp.array([0, 9])), [0.02, 2.0], rtol=1e-6)
    counts = np.bincount(drawn(process), minlength=10)
    assert len(counts) == 10
    assert np.all(np.abs(counts - 2000) < 200)


def test_times_of_training():
    for process in (VariancePreserving(), GeometricExploding(smallest_time=0.5)):
        times = drawn(process)
        assert process.smallest_time <= times.min() < process.smallest_time + 1e-3
        assert times.max() == pytest.approx(1.0, abs=1e-3)
        assert times.mean() == pytest.approx((1 + process.smallest_time) / 2, abs=0.01)
    logits = drawn(LinearFlow(logit_normal(-0.4, 0.7)))
    logits = np.log(logits / (1 - logits))
    assert logits.mean() == pytest.approx(-0.4, abs=0.02)
    assert logits.std() == pytest.approx(0.7, abs=0.02)


def test_shifted_times_keep_the_ends_and_the_ratio_of_noise():
    """Esser et al. 2024, eq. 23: sigma / signal is multiplied by the shift."""
    assert list(shifted(np.array([0.0, 1.0]), 3.0)) == [0.0, 1.0]
    t = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(shifted(t, 3.0) / (1 - shifted(t, 3.0)), 3 * t / (1 - t))
    plain, moved = drawn(LinearFlow()), drawn(LinearFlow(shift=3.0))
    np.testing.assert_allclose(moved, shifted(plain, 3.0), rtol=1e-6)


def test_times_that_a_process_lacks_are_refused():
    """Such as timesteps in the place of times from 0 to 1."""
    for process in (VariancePreserving(), SubVariancePreserving(), LinearFlow()):
        with pytest.raises(GenaxError, match=r"times of a .* are from 0 to 1, got .*999"):
            ddim(process, np.array([999.0, 500.0]))
    with pytest.raises(GenaxError, match="times of a NoiseLevels are from 0 to 9"):
        euler(NoiseLevels(), np.array([10, 5]))
    with pytest.raises(GenaxError, match="got timestep 10"):
        NoiseLevels().sigma(jnp.array([3, 10]))
    with pytest.raises(GenaxError, match=r"no signal at time 1\.0"):
        predictor_corrector(LinearFlow(), np.linspace(1, 0.1, 4), euler_maruyama)


def test_noise_alone_gives_no_image():
    """Clipping would make an image of an infinity."""
    noise = jnp.ones((1, 2, 2, 1))
    found = predict_clean(LinearFlow(), EPSILON, 0.5 * noise, noise, jnp.ones(1), clip=True)
    assert np.isnan(found).all()
    found = predict_clean(LinearFlow(), VELOCITY, 0.5 * noise, noise, jnp.ones(1), clip=True)
    np.testing.assert_allclose(found, 0.5)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: VariancePreserving(beta_min=2.0, beta_max=1.0), "beta_min=2.0 and beta_max=1.0"),
        (lambda: SubVariancePreserving(beta_max=float("nan")), "beta_max=nan"),
        (lambda: VariancePreserving(smallest_time=1.0), "smallest_time=1.0"),
        (lambda: GeometricExploding(sigma_min=0.0), "sigma_min=0.0"),
        (lambda: GeometricExploding(smallest_time=-1.0), "smallest_time=-1.0"),
        (lambda: NoiseLevels(num_levels=1), "1 levels"),
        (lambda: LinearFlow(shift=0.0), "shift=0.0"),
        (lambda: logit_normal(deviation=0.0), "deviation=0.0"),
    ],
)
def test_refuses_what_is_no_process(make, said):
    with pytest.raises(GenaxError, match=said):
        make()
