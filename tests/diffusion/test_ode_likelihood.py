"""Likelihood by the probability flow: the closed form of Gaussian data, and dequantisation."""

from __future__ import annotations

import math
import sys
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from genax.core import GenaxError
from genax.diffusion.linear_flow import LinearFlow
from genax.diffusion.ode_likelihood import ode_bits_per_dim
from genax.diffusion.preconditioning import preconditioned
from genax.diffusion.predictions import CLEAN, CONTINUOUS_EPSILON, VELOCITY
from genax.diffusion.process import expand
from genax.diffusion.scores import scaled_score
from genax.diffusion.variance_exploding import GeometricExploding, VarianceExploding
from genax.diffusion.variance_preserving import SubVariancePreserving, VariancePreserving
from tests.diffusion.toys import DEVIATION, run

pytest.importorskip("diffrax")
RNG = np.random.default_rng(0)
# The noise that a flow reaches has the rest of the data's mean, 0.003 deviations of 0.3 in the VE
# SDE, which counts in the likelihood of one example. Data of mean 0 has none.
MEAN = 0.0


class Gaussian(nn.Module):
    """The exact output for data N(MEAN, DEVIATION^2) of any process and prediction.

    It undoes what the prediction does to the inputs.
    """

    process: object
    prediction: object
    back: object

    @nn.compact
    def __call__(self, x, times, train=False):
        one = self.param("one", nn.initializers.ones, ())
        times = self.back(times)
        signal, sigma = (expand(f(times), x) for f in (self.process.signal, self.process.sigma))
        scale, _ = self.prediction.inputs(jnp.ones_like(x), times, signal, sigma)
        noisy = x / scale
        gain = signal * DEVIATION**2 / (jnp.square(signal * DEVIATION) + jnp.square(sigma))
        clean = MEAN + gain * (noisy - signal * MEAN)
        noise = (noisy - signal * clean) / sigma
        return one * self.prediction.target(clean, noise, signal, sigma)


VE = GeometricExploding()
SYSTEMS = {
    "vp": (VariancePreserving(), CONTINUOUS_EPSILON, lambda t: t / 999, {}),
    "sub-vp": (SubVariancePreserving(), CONTINUOUS_EPSILON, lambda t: t / 999, {}),
    "ve": (
        VE,
        scaled_score(),
        lambda c: (c + math.log(2.0 / 0.02)) / math.log(5000),
        {},
    ),
    "edm": (
        VarianceExploding(),
        preconditioned(),
        lambda c: jnp.exp(4 * c),
        {"smallest_time": 0.002, "largest_time": 80.0},
    ),
    "flow": (LinearFlow(), VELOCITY, lambda t: t / 1000, {}),
    "flow-clean": (LinearFlow(), CLEAN, lambda t: t, {"smallest_time": 1e-3}),
}
DAILY = (("vp", "exact"), ("edm", "hutchinson"), ("flow-clean", "exact"))


def bits_of(name, image, **settings):
    process, prediction, back, times = SYSTEMS[name]
    loss = partial(
        ode_bits_per_dim,
        process=process,
        prediction=prediction,
        **{"num_levels": None, **times, **settings},
    )
    batch = {"image": jnp.asarray(image, jnp.float32), "index": jnp.arange(len(image))}
    return run(loss, Gaussian(process, prediction, back), batch)


def exact(name, image):
    """Bits per dimension of the process's Gaussian at its smallest time, in float64."""
    process, _, _, times = SYSTEMS[name]
    at = jnp.array([times.get("smallest_time", 1e-5)])
    signal, sigma = float(process.signal(at)[0]), float(process.sigma(at)[0])
    spread = math.hypot(signal * DEVIATION, sigma)
    logs = norm.logpdf(image.astype(np.float64), signal * MEAN, spread)
    return -logs.mean((1, 2, 3)) / math.log(2)


@pytest.mark.parametrize(
    ("name", "probes"),
    [
        pytest.param(
            name,
            probes,
            id=f"{name}-{kind}",
            marks=() if (name, kind) in DAILY else pytest.mark.long,
        )
        for name in SYSTEMS
        for probes, kind in ((None, "exact"), (1, "hutchinson"))
    ],
)
def test_a_gaussian_has_its_likelihood(name, probes):
    """Its Jacobian is a multiple of the identity, so a probe of -1 and 1 has no variance."""
    image = RNG.normal(MEAN, DEVIATION, (8, 2, 2, 1))
    found = bits_of(name, image, probes=probes)
    assert found.values.shape == (8,)
    np.testing.assert_allclose(found.values, exact(name, image), atol=1e-3)
    assert found.aux["probes"] == (probes or 0)
    assert found.aux["tolerance"] == pytest.approx(1e-5)
    assert 20 < found.aux["dopri5_evaluations"] < 1000
    assert (found.aux["dopri5_evaluations"] - 1) % 6 == 0


class Mixed(nn.Module):
    """The exact noise of data N(0, COVARIANCE) of 4 pixels, under the VP SDE."""

    @nn.compact
    def __call__(self, x, times, train=False):
        one = self.param("one", nn.initializers.ones, ())
        process = VariancePreserving()
        signal, sigma = (f(times / 999)[:, None, None] for f in (process.signal, process.sigma))
        spread = jnp.square(signal) * COVARIANCE + jnp.square(sigma) * jnp.eye(4)
        score = -jnp.linalg.solve(spread, x.reshape(-1, 4, 1))
        return one * -(sigma * score).reshape(x.shape)


ROOT = np.linalg.qr(RNG.normal(size=(4, 4)))[0] * [0.5, 0.3, 0.2, 0.1]
COVARIANCE = ROOT @ ROOT.T


@pytest.mark.long
def test_probes_are_unbiased_where_pixels_depend_on_each_other():
    """The Jacobian is no multiple of the identity; more probes come closer to the trace."""
    image = (RNG.normal(size=(100, 4)) @ ROOT.T).reshape(-1, 2, 2, 1)
    batch = {"image": jnp.asarray(image, jnp.float32), "index": jnp.arange(100)}
    spread = COVARIANCE + 1e-6 * np.eye(4)
    flat = image.reshape(-1, 4)
    nats = 0.5 * (flat @ np.linalg.inv(spread) * flat).sum(1)
    nats = nats + 0.5 * np.linalg.slogdet(2 * np.pi * spread)[1]
    errors = {}
    for probes in (None, 1, 16):
        loss = partial(
            ode_bits_per_dim,
            process=VariancePreserving(),
            prediction=CONTINUOUS_EPSILON,
            num_levels=None,
            probes=probes,
        )
        errors[probes] = run(loss, Mixed(), batch).values - nats / 4 / math.log(2)
    assert np.abs(errors[None]).max() < 1e-3
    assert errors[1].std() > 0.02
    assert errors[16].std() < 0.4 * errors[1].std()
    assert abs(errors[16].mean()) < 4 * errors[16].std() / 10


def test_levels_are_dequantised():
    """Bits of 17 levels: those of the density at points of each interval, whose width is 2 / 17."""
    levels = RNG.integers(0, 17, (200, 2, 2, 1))
    image = levels / 8 - 1.0
    found = bits_of("vp", image, num_levels=17)
    edges = np.linspace(-1, 1, 18)
    middle = (edges[levels] + edges[levels + 1]) / 2
    nodes = (np.arange(50) + 0.5) / 50 - 0.5
    densities = norm.logpdf(middle[..., None] + 2 / 17 * nodes, MEAN, DEVIATION).mean(-1)
    expected = -densities.mean((1, 2, 3)) / math.log(2) + math.log2(17 / 2)
    difference = np.asarray(found.values) - expected
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(200)
    assert difference.std() > 1e-3


@pytest.mark.long
def test_noise_belongs_to_the_example():
    image = RNG.integers(0, 256, (6, 2, 2, 1)) / 127.5 - 1
    every = bits_of("flow", image, num_levels=256).values
    process, prediction, back, _ = SYSTEMS["flow"]
    loss = partial(ode_bits_per_dim, process=process, prediction=prediction)
    part = {"image": jnp.asarray(image[4:], jnp.float32), "index": jnp.arange(4, 6)}
    found = run(loss, Gaussian(process, prediction, back), part).values
    np.testing.assert_allclose(found, every[4:], atol=1e-3)


def test_steps_that_do_not_suffice_give_no_number():
    assert np.isnan(bits_of("vp", np.zeros((2, 2, 2, 1)), max_steps=2).values).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"smallest_time": 1.0},
        {"smallest_time": -0.1},
        {"tolerance": 0.0},
        {"probes": 0},
        {"num_levels": 1},
    ],
)
def test_refuses_what_measures_nothing(wrong):
    with pytest.raises(GenaxError, match=f"{next(iter(wrong))}="):
        bits_of("vp", np.zeros((1, 2, 2, 1)), **wrong)


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffrax", None)
    with pytest.raises(GenaxError, match=r"need diffrax.*\[ode\]"):
        bits_of("vp", np.zeros((1, 2, 2, 1)))
