"""Adaptive steps on the probability flow: within their tolerance, on any process."""

from __future__ import annotations

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.diffusion.linear_flow import LinearFlow
from genax.diffusion.sampling import sample
from genax.diffusion.solvers import adaptive
from genax.diffusion.solvers.adaptive import integrate
from genax.diffusion.variance_exploding import VarianceExploding
from genax.diffusion.variance_preserving import VariancePreserving
from genax.diffusion.watching import with_progress
from tests.diffusion.test_order import LARGEST, SMALLEST, exact, expected_clean
from tests.diffusion.test_order import NOISE as COLUMN
from tests.diffusion.toys import (
    DEVIATION,
    MEAN,
    NOISE,
    PROCESS,
    GaussianDenoiser,
    gaussian_clean,
    run,
)

EXPLODING, LONG = VarianceExploding(), pytest.mark.long


@pytest.mark.long
@pytest.mark.parametrize(
    "method", ["Tsit5", pytest.param("Dopri5", marks=LONG), pytest.param("Heun", marks=LONG)]
)
def test_the_error_follows_the_tolerance(method):
    errors, evaluations = [], []
    for tolerance in (1e-3, 1e-5, 1e-7):
        with jax.enable_x64(True):
            found = jax.jit(
                lambda noisy, tolerance=tolerance: integrate(
                    lambda noisy, time: expected_clean(jnp, noisy, time),
                    noisy,
                    EXPLODING,
                    LARGEST,
                    SMALLEST,
                    tolerance,
                    method,
                    10_000,
                )
            )(jnp.asarray(COLUMN) * LARGEST)
            errors.append(np.abs(found.samples - exact()).max())
            evaluations.append(int(found.evaluations))
    assert errors[0] < 0.05
    assert errors[2] < 1e-5
    assert errors[2] < errors[1] / 10 < errors[0] / 100, errors
    assert evaluations[0] < evaluations[1] < evaluations[2], evaluations


@pytest.mark.parametrize(
    ("process", "largest", "smallest", "error"),
    [
        (EXPLODING, 80.0, 0.002, 2e-4),
        (VariancePreserving(), 1.0, 1e-4, 2e-4),
        (LinearFlow(), 1.0, 1e-3, 2e-4),
        # Between timesteps the flow is not smooth, which misleads estimates of the error.
        (PROCESS, 999, 0, 2e-3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_samples_are_those_of_the_exact_flow(process, largest, smallest, error):
    """On Gaussian data the flow keeps each pixel's number of deviations from the mean."""
    solver = adaptive(process, largest, smallest, 1e-6)
    samples = jax.jit(lambda: solver(partial(gaussian_clean, process), NOISE, None))()
    first = jnp.asarray([largest], float)
    signal, sigma, prior = (f(first)[0] for f in (process.signal, process.sigma, process.prior))
    spread = np.sqrt((signal * DEVIATION) ** 2 + sigma**2)
    deviations = (prior * NOISE - signal * MEAN) / spread
    last = jnp.asarray([smallest], float)
    signal, sigma = process.signal(last)[0], process.sigma(last)[0]
    # The last step goes to the expected data.
    shrunk = DEVIATION / np.sqrt(DEVIATION**2 + (sigma / signal) ** 2)
    np.testing.assert_allclose(samples, MEAN + DEVIATION * shrunk * deviations, atol=error)


def test_evaluations_are_counted():
    calls = []

    def denoise(noisy, time):
        jax.debug.callback(lambda time: calls.append(time), time)
        return gaussian_clean(EXPLODING, noisy, time)

    found = jax.jit(lambda: integrate(denoise, 80 * NOISE, EXPLODING, 80.0, 0.01))()
    jax.effects_barrier()
    # diffrax evaluates once more, to choose the length of the first step.
    assert int(found.evaluations) <= len(calls) <= int(found.evaluations) + 2


@pytest.mark.long
def test_it_samples_within_a_task():
    solver = adaptive(PROCESS, 999, 0, 1e-3)
    function = partial(sample, solver=solver, process=PROCESS, shape=(8, 8, 1), clip_denoised=False)
    images = run(function, GaussianDenoiser(), {"index": np.arange(64)})
    assert images.mean() == pytest.approx(MEAN, abs=0.02)
    assert images.std() == pytest.approx(DEVIATION, rel=0.05)


def test_its_progress_is_that_of_the_time():
    calls, times = [], np.array([80.0, 10.0, 1.0, 0.1])
    solver = adaptive(EXPLODING, 80.0, 0.01, 1e-3)
    watched = with_progress(solver, times, lambda *call: calls.append(call[0]))
    jax.jit(lambda: watched(partial(gaussian_clean, EXPLODING), NOISE, None))().block_until_ready()
    jax.effects_barrier()
    assert calls == sorted(set(calls))
    assert calls[-1] == 4


def test_steps_that_do_not_suffice_give_nan():
    solver = adaptive(EXPLODING, 80.0, 0.002, 1e-6, max_steps=3)
    samples = jax.jit(lambda: solver(partial(gaussian_clean, EXPLODING), NOISE, None))()
    assert np.isnan(samples).all()


def test_without_diffrax_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffrax", None)
    with pytest.raises(GenaxError, match=r"\.\[ode\]"):
        adaptive(EXPLODING, 80.0, 0.002)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"largest": 0.001}, "times have to fall"),
        ({"tolerance": 0.0}, "above 0"),
        ({"smallest": 0.0}, r"no noise at time 0\.0"),
        ({"method": "Kvaerno5"}, "no explicit Runge-Kutta method 'Kvaerno5'"),
        ({"method": "tsit"}, "no explicit Runge-Kutta method 'tsit'"),
    ],
)
def test_refuses_wrong_settings(wrong, said):
    with pytest.raises(GenaxError, match=said):
        adaptive(EXPLODING, **{"largest": 80.0, "smallest": 0.002, **wrong})
