"""The loss, the variational bound, and how they draw."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.diffusion.conditions import dropped
from genax.diffusion.likelihood import (
    discretized_log_likelihood,
    variational_bound,
    variational_term,
)
from genax.diffusion.losses import denoising_loss
from genax.diffusion.networks import Networks
from genax.diffusion.predictions import CLEAN, EPSILON, V
from genax.diffusion.process import DiscreteProcess, fixed_large, fixed_small, q_sample
from genax.diffusion.schedules import zero_terminal_snr
from genax.diffusion.unet import UNet
from genax.diffusion.variance_exploding import VarianceExploding
from genax.diffusion.weightings import as_prediction, min_snr, p2, uniform, variational
from genax.nn.conditions import on_label
from tests.diffusion.toys import DEVIATION, MEAN, PROCESS, GaussianDenoiser, WavyDenoiser, run

RNG = np.random.default_rng(0)


def data(num, shape=(8, 8, 1)):
    image = RNG.normal(MEAN, DEVIATION, (num, *shape)).astype(np.float32)
    return {"image": image.clip(-1, 1), "index": np.arange(num)}


def test_the_best_denoiser_has_the_loss_of_its_posterior():
    """E[L_simple] of the exact posterior mean is the mean over t of var(noise | x_t)."""
    batch = data(512, (16, 16, 1))
    values = run(partial(denoising_loss, process=PROCESS), GaussianDenoiser(), batch).values
    assert values.shape == (512,)
    signal = PROCESS.alphas_cumprod * DEVIATION**2
    expected = np.mean(signal / (signal + 1 - PROCESS.alphas_cumprod))
    assert values.mean() == pytest.approx(expected, rel=0.15)


def test_draws_belong_to_the_example():
    batch = data(4)
    loss = partial(denoising_loss, process=PROCESS)
    every = run(loss, WavyDenoiser(), batch).values
    part = {"image": batch["image"][2:3], "index": batch["index"][2:3]}
    np.testing.assert_allclose(run(loss, WavyDenoiser(), part).values, every[2:3], rtol=1e-5)
    same = {"image": np.repeat(batch["image"][:1], 4, 0), "index": batch["index"]}
    assert len(set(np.asarray(run(loss, WavyDenoiser(), same).values))) == 4


def test_a_continuous_process_trains_with_the_same_loss():
    """The noise of data N(MEAN, DEVIATION^2) + time * noise has the variance d^2 / (d^2 + t^2)."""
    process, batch = VarianceExploding(), data(4000, (4, 4, 1))
    batch["image"] = RNG.normal(MEAN, DEVIATION, batch["image"].shape).astype(np.float32)

    class Denoiser(nn.Module):
        @nn.compact
        def __call__(self, x, times, train=False):
            one = self.param("one", nn.initializers.ones, ())
            times = times.reshape(-1, 1, 1, 1)
            return one * times * (x - MEAN) / (DEVIATION**2 + times**2)

    values = run(partial(denoising_loss, process=process), Denoiser(), batch).values
    times = np.exp(RNG.normal(-1.2, 1.2, 100_000))
    expected = np.mean(DEVIATION**2 / (DEVIATION**2 + times**2))
    assert values.mean() == pytest.approx(expected, rel=0.03)


def test_a_weighting_multiplies_the_error_of_each_example():
    batch = data(6)
    loss = partial(denoising_loss, process=PROCESS)
    plain = run(loss, WavyDenoiser(), batch).values
    seen = []

    def half_the_noise(prediction, signal, sigma):
        seen.append(prediction)
        return sigma / 2

    weighted = run(partial(loss, weighting=half_the_noise), WavyDenoiser(), batch).values
    assert seen == [EPSILON]
    factors = np.asarray(weighted / plain)
    assert np.all((factors > 0) & (factors <= 0.5))
    assert len(set(factors.tolist())) > 1
    same = run(partial(loss, weighting=uniform), WavyDenoiser(), batch).values
    np.testing.assert_array_equal(same, plain)


def test_min_snr_is_one_loss_for_all_predictions():
    """Hang et al. 2023: min(SNR, 5) for the image, over SNR for noise, over SNR + 1 for v."""
    signal, sigma = PROCESS.signal(jnp.arange(1000)), PROCESS.sigma(jnp.arange(1000))
    ratio = np.asarray(PROCESS.alphas_cumprod / (1 - PROCESS.alphas_cumprod))
    capped = np.minimum(ratio, 5)
    for prediction, expected in (
        (CLEAN, capped),
        (EPSILON, capped / ratio),
        (V, capped / (ratio + 1)),
    ):
        weights = min_snr(5.0)(prediction, signal, sigma)
        np.testing.assert_allclose(weights, expected, rtol=1e-5)
    with pytest.raises(GenaxError, match=r"most=0\.0"):
        min_snr(0.0)


KEPT, BETAS = PROCESS.alphas_cumprod, PROCESS.betas
RATIO = KEPT / (1 - KEPT)
# Each weighting as a factor of the error of the noise, by its paper.
ON_NOISE = {
    "min-SNR": (min_snr(5.0), np.minimum(RATIO, 5) / RATIO),
    "SNR + 1": (as_prediction(V), (RATIO + 1) / RATIO),
    "SNR": (as_prediction(CLEAN), 1 / RATIO),
    "P2": (p2(0.5, 2.0), (2 + RATIO) ** -0.5),
    "variational": (variational(PROCESS), BETAS**2 / (2 * BETAS * (1 - BETAS) * (1 - KEPT))),
}
# The squared error of the noise for an error of 1 of each output.
OF_NOISE = {"noise": (EPSILON, 1.0), "clean": (CLEAN, RATIO), "v": (V, KEPT)}


@pytest.mark.parametrize("name", ON_NOISE)
@pytest.mark.parametrize("output", OF_NOISE)
def test_a_weighting_is_one_loss_for_all_predictions(name, output):
    """Value and gradient of each timestep's loss, by the formulas in float64."""
    weighting, on_noise = ON_NOISE[name]
    prediction, of_noise = OF_NOISE[output]
    signal, sigma = PROCESS.signal(jnp.arange(1000)), PROCESS.sigma(jnp.arange(1000))

    @jax.jit
    @partial(jax.value_and_grad, argnums=0)
    def loss(found, target):
        return (weighting(prediction, signal, sigma) * jnp.square(found - target)).sum()

    found, target = RNG.integers(-200, 200, (2, 1000)) / 64
    value, gradient = loss(jnp.asarray(found), jnp.asarray(target))
    weights = on_noise * of_noise
    error = found - target
    assert value == pytest.approx((weights * error**2).sum(), rel=1e-5)
    np.testing.assert_allclose(gradient, 2 * weights * error, rtol=1e-5)


def test_the_variational_weighting_is_that_of_the_bound():
    """The weight is the part of a term that the noise's error decides, with variances beta."""
    timesteps, error = jnp.arange(1, 1000, 37), 0.1
    noise = jnp.ones((len(timesteps), 1, 1, 1))
    clean = jnp.zeros_like(noise)
    noisy = q_sample(PROCESS, clean, noise, timesteps)
    terms = [
        variational_term(PROCESS, EPSILON, fixed_large(PROCESS), output, clean, noisy, timesteps)
        for output in (noise, noise + error)
    ]
    signal, sigma = PROCESS.signal(timesteps), PROCESS.sigma(timesteps)
    with pytest.raises(GenaxError, match=r"variational: the last timestep .* has no signal"):
        variational(DiscreteProcess(zero_terminal_snr(PROCESS.betas)))
    with pytest.raises(GenaxError, match=r"p2: k=0\.0 has to be above 0"):
        p2(k=0.0)
    weights = variational(PROCESS)(EPSILON, signal, sigma)
    np.testing.assert_allclose(terms[1] - terms[0], weights * error**2, rtol=2e-2, atol=1e-6)


def test_dropped_conditions_belong_to_the_example():
    condition = dropped(on_label, 0.3, label=10)
    batch = {"index": np.arange(1000), "label": np.arange(1000) % 10}

    def labels(batch):
        return np.asarray(run(condition, WavyDenoiser(), batch)["label"])

    found = labels(batch)
    gone = found == 10
    assert gone.mean() == pytest.approx(0.3, abs=0.05)
    np.testing.assert_array_equal(found[~gone], batch["label"][~gone])
    part = {name: values[500:] for name, values in batch.items()}
    np.testing.assert_array_equal(labels(part), found[500:])


def test_what_cannot_be_dropped_is_refused():
    with pytest.raises(GenaxError, match="probability 1"):
        dropped(on_label, 1.01, label=3)
    batch = {"index": np.arange(2), "label": np.arange(2)}
    with pytest.raises(
        GenaxError, match=r"\['text'\], but the denoiser's conditions are \['label'\]"
    ):
        run(dropped(on_label, 0.5, text=3), WavyDenoiser(), batch)


def test_initialises_by_tracing_with_labels():
    networks = Networks(UNet(8, (1,), 1, (), num_groups=4, num_classes=3))
    loss = partial(denoising_loss, process=PROCESS, condition=on_label)
    batch = data(2) | {"label": np.array([0, 2])}
    keys = dict(zip(("params", "example"), jax.random.split(jax.random.key(0)), strict=True))
    variables = jax.eval_shape(nn.init(loss, networks), keys, batch)
    assert variables["params"]["denoiser"]["labels"]["embedding"].shape == (3, 32)


def test_decoder_is_a_distribution_over_levels():
    levels = jnp.linspace(-1, 1, 256)[:, None]
    mean = jnp.array([-1.2, -0.3, 0.0, 0.999])
    for deviation in (0.003, 0.1, 2.0):
        logs = discretized_log_likelihood(levels, mean, deviation)
        np.testing.assert_allclose(np.exp(logs).sum(0), 1, atol=2e-5)
        assert np.isfinite(logs).all()


def test_decoder_tail_falls_like_the_gaussian():
    """Far from the mean the mass underflows; the logarithm must not."""
    image = jnp.array([[0.0], [0.2], [0.4], [0.8]])
    logs = discretized_log_likelihood(image, jnp.zeros(1), 0.01)
    assert np.all(np.diff(logs[:, 0]) < 0)
    assert logs[3, 0] == pytest.approx(-0.5 * 80**2, rel=0.02)


def exact_bound(image, variances):
    """Eq. 5 summed over all t in float64 for the denoiser of Gaussian data, by quadrature."""
    total = PROCESS.alphas_cumprod[-1]
    nats = 0.5 * ((1 - total) - 1 - math.log(1 - total) + total * image**2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    weights = weights / weights.sum()
    for t in range(len(PROCESS.betas)):
        signal, variance = np.sqrt(PROCESS.alphas_cumprod[t]), 1 - PROCESS.alphas_cumprod[t]
        noisy = signal * image[..., None] + np.sqrt(variance) * nodes
        gain = signal * DEVIATION**2 / (signal**2 * DEVIATION**2 + variance)
        clean = MEAN + gain * (noisy - signal * MEAN)
        if t == 0:
            pair = (jnp.asarray(x, jnp.float32) for x in (image[..., None], clean))
            logs = discretized_log_likelihood(*pair, math.sqrt(variances[0]))
            nats = nats - (np.asarray(logs) * weights).sum(-1)
            continue
        before = PROCESS.alphas_cumprod_before[t]
        pull = np.sqrt(before) * PROCESS.betas[t] / variance
        true = PROCESS.posterior_variance[t]
        gap = (pull * (clean - image[..., None])) ** 2
        terms = 0.5 * (true / variances[t] - 1 - np.log(true / variances[t]) + gap / variances[t])
        nats = nats + (terms * weights).sum(-1)
    return nats / math.log(2)


@pytest.mark.long
@pytest.mark.parametrize(("num", "num_draws", "rel"), [(64, 40, 0.02), (400, 2, 0.03)])
def test_bound_is_unbiased_and_above_the_entropy(num, num_draws, rel):
    batch = data(num, (4, 4, 1))
    batch["image"] = np.round((batch["image"] + 1) * 127.5) / 127.5 - 1
    bound = partial(
        variational_bound,
        process=PROCESS,
        num_draws=num_draws,
        variance=fixed_small,
        clip_denoised=False,
    )
    values = run(bound, GaussianDenoiser(), batch).values
    assert values.shape == (num,)
    exact = exact_bound(batch["image"].astype(np.float64), fixed_small(PROCESS)).mean()
    assert values.mean() == pytest.approx(exact, rel=rel)
    entropy = (0.5 * math.log(2 * math.pi * math.e * DEVIATION**2) + math.log(127.5)) / math.log(2)
    assert entropy - 0.05 < exact < entropy + 1


@pytest.mark.parametrize("few", [{"num_draws": 0}, {"num_levels": 1}])
def test_bound_refuses_to_leave_terms_out(few):
    bound = partial(variational_bound, process=PROCESS, **few)
    with pytest.raises(GenaxError, match="must be at least 1"):
        run(bound, GaussianDenoiser(), data(2, (4, 4, 1)))


def test_bound_of_a_process_of_one_step():
    """It has no term that could be drawn."""
    bound = partial(variational_bound, process=replace(PROCESS, betas=PROCESS.betas[:1]))
    with pytest.raises(GenaxError, match="a process of 1 timestep has no term of the bound"):
        run(bound, GaussianDenoiser(), data(2, (4, 4, 1)))
