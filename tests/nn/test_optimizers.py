"""Learning rates at their ends, and clipping."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.nn.optimizers import (
    adamw,
    check_decay,
    clip_by_norm,
    flat_inverse_sqrt,
    warmup_constant,
    warmup_cosine,
    warmup_inverse_sqrt,
    warmup_linear,
)


def at(schedule, steps):
    return np.array([float(jax.jit(schedule)(jnp.int32(step))) for step in steps])


def test_warmup_cosine_follows_its_own_length():
    found = at(warmup_cosine(1e-3, 1e-4, 100, 2000), [0, 100, 1050, 2000, 9000])
    np.testing.assert_allclose(found, [1e-3 / 101, 1e-3, 5.5e-4, 1e-4, 1e-4], rtol=1e-5)


def test_warmup_linear():
    found = at(warmup_linear(1e-4, 10, 110), [0, 5, 10, 60, 110, 500])
    np.testing.assert_allclose(found, [0, 5e-5, 1e-4, 5e-5, 0, 0], rtol=1e-5, atol=1e-11)


def test_warmup_inverse_sqrt_has_its_peak_at_the_end_of_the_warmup():
    rate = warmup_inverse_sqrt(512, 4000)
    found = at(rate, [0, 3999, 15999])
    peak = 512**-0.5 * 4000**-0.5
    np.testing.assert_allclose(found, [peak / 4000, peak, peak / 2], rtol=1e-5)


def test_flat_inverse_sqrt():
    found = at(flat_inverse_sqrt(100, 2.0), [0, 100, 400])
    np.testing.assert_allclose(found, [0.2, 0.2, 0.1], rtol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "first", "second"),
    [
        (partial(warmup_constant, 1e-3), 1e-3, 1e-3),
        (
            lambda warm: warmup_cosine(1e-3, 0.0, warm, 10),
            1e-3,
            1e-3 * (1 + np.cos(np.pi / 10)) / 2,
        ),
        (lambda warm: warmup_linear(1e-3, warm, 10), 1e-3, 0.9e-3),
        (partial(warmup_inverse_sqrt, 4), 0.5, 0.5 / 2**0.5),
        (flat_inverse_sqrt, 1.0, 1.0),
    ],
    ids=["constant", "cosine", "linear", "inverse_sqrt", "flat_inverse_sqrt"],
)
def test_no_warmup_is_the_full_rate_at_once_and_a_negative_one_is_refused(schedule, first, second):
    np.testing.assert_allclose(at(schedule(0), [0, 1]), [first, second], rtol=1e-6)
    assert np.isfinite(at(schedule(1), [0, 1, 2, 100])).all()
    with pytest.raises(GenaxError, match="warmup_steps=-5 must be at least 0"):
        schedule(-5)


@pytest.mark.parametrize("warm", [100, 200])
def test_decays_that_end_before_they_begin_are_refused(warm):
    for check in (
        partial(warmup_cosine, 1e-3, 0.0),
        partial(warmup_linear, 1e-3),
        check_decay,
    ):
        with pytest.raises(GenaxError, match=f"warmup_steps={warm} must be below decay_steps=100"):
            check(warm, 100)


@pytest.mark.parametrize("make", [clip_by_norm, lambda most: adamw(0.1, 0.0, clip=most)])
def test_clipping_by_zero_changes_nothing_and_by_less_is_refused(make):
    gradient = {"w": jnp.array([3.0, 4.0])}
    optimizer = make(0.0)
    free, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
    optimizer = make(1e9)
    expected, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
    np.testing.assert_array_equal(free["w"], expected["w"])
    assert np.abs(free["w"]).max() > 0
    for most in (-1.0, float("nan")):
        with pytest.raises(GenaxError, match="does not clip"):
            make(most)


def test_clipping():
    optimizer = clip_by_norm(1.0)
    gradient = {"w": jnp.array([3.0, 4.0])}
    clipped, _ = optimizer.update(gradient, optimizer.init(gradient))
    np.testing.assert_allclose(clipped["w"], [0.6, 0.8], rtol=1e-6)


def test_a_rate_of_zero_stays_zero_and_a_final_rate_above_the_peak_is_refused():
    for warm in (0, 5):
        np.testing.assert_array_equal(at(warmup_cosine(0.0, 0.0, warm, 10), [0, 3, 20]), 0)
    for final in (2e-3, -1e-3, float("nan")):
        with pytest.raises(GenaxError, match=r"must be from 0 to learning_rate=0\.001"):
            warmup_cosine(1e-3, final, 0, 10)
