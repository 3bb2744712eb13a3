"""MeanFlow's loss by its formula, and samples in one step and in two."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, per_example
from genax.diffusion.linear_flow import LinearFlow, logit_normal
from genax.diffusion.mean_flow import mean_flow_loss
from genax.diffusion.networks import Networks
from genax.diffusion.predictions import AVERAGE_VELOCITY
from genax.diffusion.sampling import sample
from genax.diffusion.solvers.mean_flow import mean_flow
from tests.diffusion.toys import DEVIATION, MEAN, run

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, (64, 4, 4, 1)).astype(np.float32)
BATCH = {"image": jnp.asarray(IMAGES), "index": jnp.arange(64)}
PROCESS = LinearFlow(logit_normal(-0.4, 1.0))


class Bent(nn.Module):
    """a * (x^2 t + x r^2), whose derivatives are easy."""

    @nn.compact
    def __call__(self, x, times, train=False, interval=None):
        one = self.param("one", nn.initializers.ones, ())
        t, r = (a.reshape(-1, 1, 1, 1) for a in (times, times - interval))
        return one * (x**2 * t + x * r**2)


class AverageVelocity(nn.Module):
    """The exact average velocity of data N(MEAN, DEVIATION^2)."""

    @nn.compact
    def __call__(self, x, times, train=False, interval=None):
        one = self.param("one", nn.initializers.ones, ())
        t, r = (a.reshape(-1, 1, 1, 1) for a in (times, times - interval))

        def spread(t):
            return jnp.sqrt(((1 - t) * DEVIATION) ** 2 + t**2)

        there = (1 - r) * MEAN + spread(r) / spread(t) * (x - (1 - t) * MEAN)
        return one * (x - there) / jnp.where(t > r, t - r, 1.0)


def draws():
    def function(nets, batch):
        one, two = (per_example(PROCESS.sample_time, nets, batch) for _ in range(2))
        apart = per_example(jax.random.bernoulli, nets, batch, 0.25)
        return one, two, apart, per_example(jax.random.normal, nets, batch, IMAGES.shape[1:])

    return [np.asarray(x, np.float64) for x in run(function, Bent(), BATCH)]


@pytest.mark.parametrize(
    "power", [1.0, *(pytest.param(power, marks=pytest.mark.long) for power in (0.0, 0.5))]
)
def test_loss_and_gradient_are_those_of_the_formula(power):
    """Geng et al. 2025, algorithm 1 and eq. 22, with the derivatives of the network by hand."""
    one, two, apart, noise = draws()
    t = np.maximum(one, two).reshape(-1, 1, 1, 1)
    r = np.where(apart > 0, np.minimum(one, two), t.reshape(-1)).reshape(-1, 1, 1, 1)
    assert 0 < (t > r).mean() < 0.6
    v = noise - IMAGES
    z = (1 - t) * IMAGES + t * noise
    u = z**2 * t + z * r**2
    slope = v * (2 * z * t + r**2) + z**2
    difference = u - (v - (t - r) * slope)
    squares = (difference**2).sum((1, 2, 3))
    weights = (squares + 1e-3) ** -power
    loss = partial(mean_flow_loss, process=PROCESS, power=power)

    @jax.jit
    def value(a):
        apply = nn.apply(loss, Networks(Bent()))
        keys = {"example": jax.random.key(0)}
        return apply({"params": {"denoiser": {"one": a}}}, BATCH, rngs=keys)

    found = value(1.0)
    np.testing.assert_allclose(found.values, weights * squares, rtol=2e-4)
    np.testing.assert_allclose(found.aux["error"].values, squares / 16, rtol=2e-4)
    gradient = (weights * 2 * (difference * u).sum((1, 2, 3))).mean()
    np.testing.assert_allclose(jax.grad(lambda a: value(a).values.mean())(1.0), gradient, rtol=2e-4)


def test_the_exact_average_velocity_has_no_slope():
    """The target's expectation given z is the average velocity, so training rests there."""
    image = RNG.normal(MEAN, DEVIATION, (4000, 4, 4, 1))
    batch = {"image": jnp.asarray(image, jnp.float32), "index": jnp.arange(4000)}
    loss = partial(mean_flow_loss, process=PROCESS, interval_share=1.0, power=0.0)

    @jax.jit
    @jax.grad
    def slope(a, batch):
        apply = nn.apply(loss, Networks(AverageVelocity()))
        variables = {"params": {"denoiser": {"one": a}}}
        return apply(variables, batch, rngs={"example": jax.random.key(0)}).values.mean()

    assert abs(slope(1.0, batch)) < 0.02 * abs(slope(1.5, batch))


@pytest.mark.parametrize("times", [[1.0], [1.0, 0.5], [1.0, 0.7, 0.2, 0.1]])
def test_any_number_of_steps_of_the_exact_average_is_the_flow(times):
    function = partial(
        sample,
        process=PROCESS,
        shape=(4, 4, 1),
        prediction=AVERAGE_VELOCITY,
        clip_denoised=False,
        solver=mean_flow(PROCESS, np.array(times)),
    )
    batch = {"index": np.arange(5)}
    samples = run(function, AverageVelocity(), batch)

    def noise(nets, batch):
        key = nets.make_rng("example")

        def normal(index):
            return jax.random.normal(
                jax.random.fold_in(jax.random.fold_in(key, index), 0), (4, 4, 1)
            )

        return jax.vmap(normal)(batch["index"])

    expected = MEAN + DEVIATION * run(noise, AverageVelocity(), batch)
    np.testing.assert_allclose(samples, expected, atol=2e-6)


@pytest.mark.parametrize(
    "wrong", [{"interval_share": 1.5}, {"power": -1.0}, {"floor": 0.0}, {"power": float("nan")}]
)
def test_refuses_what_is_no_weight(wrong):
    with pytest.raises(GenaxError, match=next(iter(wrong))):
        run(partial(mean_flow_loss, process=PROCESS, **wrong), Bent(), BATCH)
