"""What networks get and are trained for in each system: losses by the formulas, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, per_example
from genax.diffusion.linear_flow import LinearFlow, logit_normal
from genax.diffusion.losses import denoising_loss
from genax.diffusion.networks import Networks
from genax.diffusion.preconditioning import preconditioned
from genax.diffusion.predictions import (
    AVERAGE_VELOCITY,
    CONTINUOUS_EPSILON,
    VELOCITY,
    at_times,
    predict_clean,
)
from genax.diffusion.process import expand, q_sample
from genax.diffusion.scores import by_sigma, half_sum, ncsn_score, scaled_score
from genax.diffusion.variance_exploding import (
    GeometricExploding,
    NoiseLevels,
    VarianceExploding,
)
from genax.diffusion.variance_preserving import SubVariancePreserving, VariancePreserving
from genax.diffusion.weightings import uniform
from tests.compilation import USERS_OPTIONS
from tests.diffusion.toys import WavyDenoiser, run

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, (32, 4, 4, 1)).astype(np.float32)
BATCH = {"image": jnp.asarray(IMAGES), "index": jnp.arange(32)}
KEY = jax.random.key(0)


def wavy(x, times):
    """The toy network for a parameter of 1, on which its output is linear."""
    return np.sin(3 * x + times.reshape(-1, 1, 1, 1) / 100)


# Each formula returns the loss [b] of a network a * wavy, as the papers or their code have it, from
# images, noise, times and a. The means over pixels take the place of sums.


def vp(x, z, t, a):
    """Song et al. 2021, losses.py: the score is -output / std, the label of the time 999 t."""
    log_mean = -0.25 * t**2 * 19.9 - 0.5 * t * 0.1
    std = np.sqrt(1 - np.exp(2 * log_mean)).reshape(-1, 1, 1, 1)
    noisy = np.exp(log_mean).reshape(-1, 1, 1, 1) * x + std * z
    score = -a * wavy(noisy, 999 * t) / std
    return ((score * std + z) ** 2).mean((1, 2, 3))


def sub_vp(x, z, t, a):
    log_mean = -0.25 * t**2 * 19.9 - 0.5 * t * 0.1
    std = (1 - np.exp(2 * log_mean)).reshape(-1, 1, 1, 1)
    noisy = np.exp(log_mean).reshape(-1, 1, 1, 1) * x + std * z
    score = -a * wavy(noisy, 999 * t) / std
    return ((score * std + z) ** 2).mean((1, 2, 3))


def ve(x, z, t, a):
    """Images of [0, 1] and the paper's sigmas; the network centres them."""
    std = (0.01 * (50 / 0.01) ** t).reshape(-1, 1, 1, 1)
    noisy = (x + 1) / 2 + std * z
    score = a * wavy(2 * noisy - 1, np.log(std)) / std
    return 0.5 * ((score * std + z) ** 2).sum((1, 2, 3))


def ncsn(x, z, t, a):
    """Song & Ermon 2019, anneal_dsm_score_estimation with its power of 2."""
    sigmas = np.exp(np.linspace(np.log(1.0), np.log(0.01), 10))
    label = 9 - t.astype(int)
    used = sigmas[label].reshape(-1, 1, 1, 1)
    perturbed = (x + 1) / 2 + z * used
    target = -1 / used**2 * (perturbed - (x + 1) / 2)
    scores = a * wavy(2 * perturbed - 1, label)
    return 0.5 * ((scores - target) ** 2).sum((1, 2, 3)) * used.reshape(-1) ** 2


def edm(x, z, t, a):
    """Karras et al. 2022, EDMLoss and EDMPrecond."""
    sigma, sd = t.reshape(-1, 1, 1, 1), 0.5
    weight = (sigma**2 + sd**2) / (sigma * sd) ** 2
    noisy = x + sigma * z
    skip = sd**2 / (sigma**2 + sd**2)
    out = sigma * sd / np.sqrt(sigma**2 + sd**2)
    scale = 1 / np.sqrt(sd**2 + sigma**2)
    clean = skip * noisy + out * a * wavy(scale * noisy, np.log(sigma) / 4)
    return (weight * (clean - x) ** 2).mean((1, 2, 3))


def flow(x, z, t, a):
    """Esser et al. 2024: a network of 1000 t, trained for noise - clean."""
    noisy = (1 - t.reshape(-1, 1, 1, 1)) * x + t.reshape(-1, 1, 1, 1) * z
    return ((a * wavy(noisy, 1000 * t) - (z - x)) ** 2).mean((1, 2, 3))


@dataclass(frozen=True)
class System:
    name: str
    process: Any
    prediction: Any
    formula: Any
    weighting: Any = uniform
    change: Any = lambda loss: loss

    @property
    def loss(self):
        loss = partial(denoising_loss, process=self.process, prediction=self.prediction)
        return self.change(partial(loss, weighting=self.weighting))


SYSTEMS = [
    System("vp", VariancePreserving(smallest_time=1e-3), CONTINUOUS_EPSILON, vp),
    System("sub-vp", SubVariancePreserving(smallest_time=1e-3), CONTINUOUS_EPSILON, sub_vp),
    System("ve", GeometricExploding(), scaled_score(), ve, change=half_sum),
    # Sigmas are twice the paper's.
    System("ncsn", NoiseLevels(), ncsn_score(10), ncsn, by_sigma(2.0, factor=1 / 4), half_sum),
    System("edm", VarianceExploding(), preconditioned(0.5), edm),
    System("flow", LinearFlow(logit_normal()), VELOCITY, flow),
]
ALL = pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)


def draws(process):
    """The times and the noise that the loss draws."""

    def function(nets, batch):
        times = per_example(process.sample_time, nets, batch)
        return times, per_example(jax.random.normal, nets, batch, IMAGES.shape[1:])

    drawn = run(function, WavyDenoiser(), BATCH, options=USERS_OPTIONS)
    return [np.asarray(x, np.float64) for x in drawn]


@pytest.mark.parametrize(
    "system",
    [s if s.name == "edm" else pytest.param(s, marks=pytest.mark.long) for s in SYSTEMS],
    ids=lambda system: system.name,
)
def test_loss_and_gradient_are_those_of_the_formula(system):
    times, noise = draws(system.process)
    clean = IMAGES.astype(np.float64)

    def values(a):
        variables = {"params": {"denoiser": {"one": a}}}
        apply = nn.apply(system.loss, Networks(WavyDenoiser()))
        return apply(variables, BATCH, rngs={"example": KEY}).values

    compiled = partial(jax.jit, compiler_options=USERS_OPTIONS)
    value, gradient = compiled(values), compiled(jax.grad(lambda a: values(a).mean()))
    for a in (1.0, -0.5):
        expected = system.formula(clean, noise, times, a)
        np.testing.assert_allclose(value(a), expected, rtol=1e-4)
        # The loss is a square in the parameter, so a difference of any width is exact.
        slope = (
            system.formula(clean, noise, times, a + 1) - system.formula(clean, noise, times, a - 1)
        ).mean() / 2
        np.testing.assert_allclose(gradient(a), slope, rtol=1e-4)


@ALL
def test_a_target_stands_for_its_clean_image(system):
    process, prediction = system.process, system.prediction
    times, noise = (jnp.asarray(x, jnp.float32) for x in draws(process))
    if isinstance(process, NoiseLevels):
        times = times.astype(int)
    images = BATCH["image"]
    noisy = q_sample(process, images, noise, times)
    signal, sigma = (expand(f(times), noisy) for f in (process.signal, process.sigma))
    target = prediction.target(images, noise, signal, sigma)
    clean = predict_clean(process, prediction, target, noisy, times)
    np.testing.assert_allclose(clean * signal, IMAGES * signal, atol=2e-6 * (1 + sigma.max()))


def test_the_weight_of_edm_is_that_of_the_output():
    """Karras et al. 2022, section 5: c_out^2 times the weight of the clean image's error is 1."""
    sigma = np.geomspace(0.002, 80, 9).reshape(-1, 1, 1, 1)
    weight = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
    out = preconditioned(0.5).clean(1.0, 0.0, 1.0, jnp.asarray(sigma))
    np.testing.assert_allclose(weight * np.asarray(out, np.float64) ** 2, 1.0, rtol=1e-5)


def test_preconditioned_inputs_and_targets_have_variance_one():
    """At all levels of any process, for data of the stated deviation."""
    clean, noise = 0.5 * RNG.normal(size=(3, 40_000)), RNG.normal(size=(3, 40_000))
    for process in (VarianceExploding(), VariancePreserving(), LinearFlow()):
        times = jnp.array([0.01, 0.3, 0.9])
        signal, sigma = process.signal(times)[:, None], process.sigma(times)[:, None]
        noisy = signal * clean + sigma * noise
        scaled, level = preconditioned(0.5).inputs(noisy, times, signal, sigma)
        np.testing.assert_allclose(scaled.std(1), 1.0, rtol=0.02)
        np.testing.assert_allclose(level, np.log(sigma / signal)[:, 0] / 4, rtol=1e-5)
        target = preconditioned(0.5).target(clean, noise, signal, sigma)
        np.testing.assert_allclose(np.asarray(target).std(1), 1.0, rtol=0.02)


@pytest.mark.parametrize(("prediction", "scale"), [(VELOCITY, 1000), (AVERAGE_VELOCITY, 1)])
def test_a_network_of_two_times_gets_the_interval(prediction, scale):
    call = at_times(lambda noisy, times, interval: (times, interval), LinearFlow(), prediction)
    times, interval = call(BATCH["image"][:2], jnp.array([0.5, 1.0]), end=jnp.array([0.3, 0.0]))
    np.testing.assert_allclose(times, [0.5 * scale, scale])
    np.testing.assert_allclose(interval, [0.2 * scale, scale])


def test_refuses_data_without_deviation():
    with pytest.raises(GenaxError, match=r"data_deviation=0\.0"):
        preconditioned(0.0)
