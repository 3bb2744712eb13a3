"""Learned variances: in the reverse chain, in the losses and in the bound, in numpy's float64."""

from __future__ import annotations

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from genax.core import GenaxError
from genax.diffusion.guidance import classifier_free
from genax.diffusion.likelihood import variational_bound
from genax.diffusion.losses import corrupted, denoising_loss
from genax.diffusion.networks import Networks
from genax.diffusion.predictions import CLEAN, EPSILON, EPSILON_AND_VARIANCE, with_variance
from genax.diffusion.process import DiscreteProcess, between, fixed_small, learned_range
from genax.diffusion.sampling import sample
from genax.diffusion.schedules import cosine_betas
from genax.diffusion.solvers import ancestral
from genax.diffusion.variational_losses import hybrid_loss, variational_loss
from genax.diffusion.weightings import min_snr
from genax.nn.conditions import on_label
from tests.diffusion.toys import PROCESS, WavyDenoiser, run
from tests.parity import require

SMALL = DiscreteProcess(cosine_betas(8))
RNG = np.random.default_rng(0)
LEVELS = RNG.integers(0, 256, (64, 4, 4, 1))
BATCH = {"image": (LEVELS / 127.5 - 1).astype(np.float32), "index": np.arange(64)}


class Both(nn.Module):
    """Noise and its variance, each by a parameter of its own."""

    @nn.compact
    def __call__(self, x, timesteps, train=False):
        one = self.param("one", nn.initializers.ones, ())
        two = self.param("two", nn.initializers.ones, ())
        angle = x + timesteps.reshape(-1, 1, 1, 1) / 3
        return jnp.concatenate([one * jnp.sin(angle), two * jnp.cos(2 * angle)], axis=-1)


def value_and_gradient(loss, process=SMALL, batch=BATCH, **settings):
    """Mean loss, its gradient by both parameters, and what was drawn (times, noise)."""

    def function(params):
        values = nn.apply(partial(loss, process=process, **settings), Networks(Both()))(
            {"params": {"denoiser": params}}, batch, rngs={"example": jax.random.key(0)}
        )
        return values.values.mean(), values

    params = {"one": jnp.float32(0.7), "two": jnp.float32(0.4)}
    (mean, loss), gradient = jax.jit(jax.value_and_grad(function, has_aux=True))(params)
    return float(mean), {name: float(value) for name, value in gradient.items()}, loss


def drawn(process=SMALL):
    """The times and the noise of the losses."""

    times, _, noise, _ = run(partial(corrupted, process=process), WavyDenoiser(), BATCH)
    return np.asarray(times), np.asarray(noise, np.float64)


def terms(one, two, held=None, process=SMALL):
    """Squared errors, and terms of the bound in bits, [b], by the formulas in float64."""
    times, noise = drawn(process)
    clean, at = BATCH["image"].astype(np.float64), times[:, None, None, None]
    total, betas = process.alphas_cumprod[at], process.betas[at]
    before = process.alphas_cumprod_before[at]
    noisy = np.sqrt(total) * clean + np.sqrt(1 - total) * noise
    angle = noisy + at / 3
    simple = ((one * np.sin(angle) - noise) ** 2).mean((1, 2, 3))
    output = (one if held is None else held) * np.sin(angle)
    fraction = (two * np.cos(2 * angle) + 1) / 2

    def mean(clean):
        pull = np.sqrt(before) * betas / (1 - total)
        return pull * clean + np.sqrt(1 - betas) * (1 - before) / (1 - total) * noisy

    posterior = (1 - before) / (1 - total) * betas
    clipped = np.where(at == 0, process.posterior_variance[1], posterior)
    variance = np.exp(fraction * np.log(betas) + (1 - fraction) * np.log(clipped))
    ours = mean((noisy - np.sqrt(1 - total) * output) / np.sqrt(total))
    gap = (mean(clean) - ours) ** 2
    divergence = 0.5 * (np.log(variance / clipped) + (clipped + gap) / variance - 1)
    upper = norm.cdf((clean + 1 / 255 - ours) / np.sqrt(variance))
    lower = norm.cdf((clean - 1 / 255 - ours) / np.sqrt(variance))
    levels = LEVELS[: len(clean)]
    mass = np.where(levels == 255, 1, upper) - np.where(levels == 0, 0, lower)
    with np.errstate(divide="ignore"):
        nats = np.where(at == 0, -np.log(mass), divergence)
    return simple, nats.mean((1, 2, 3)) / math.log(2)


def hybrid(one, two, factor, held):
    simple, bits = terms(one, two, held)
    return (simple + factor * 8 * bits).mean()


@pytest.mark.parametrize(
    "factor", [0.001, pytest.param(1 / 8, marks=pytest.mark.long)], ids=["paper", "DiT"]
)
def test_hybrid_loss_and_its_gradient(factor):
    """L_simple + factor * T * term in bits, and no gradient of the term by the mean."""
    mean, gradient, loss = value_and_gradient(hybrid_loss, factor=factor)
    assert mean == pytest.approx(hybrid(0.7, 0.4, factor, 0.7), rel=1e-4)
    step = 1e-5
    for name, moves in (("one", (step, 0)), ("two", (0, step))):
        up, down = (hybrid(0.7 + s * moves[0], 0.4 + s * moves[1], factor, 0.7) for s in (1, -1))
        assert gradient[name] == pytest.approx((up - down) / (2 * step), rel=1e-3)
    assert loss.aux["simple"].shape == loss.aux["variational"].shape == (64,)


def test_variational_loss_and_its_gradient():
    """It is T terms of the bound, and trains the mean too."""
    mean, gradient, _ = value_and_gradient(variational_loss)
    assert mean == pytest.approx(8 * terms(0.7, 0.4)[1].mean(), rel=1e-4)
    step = 1e-5
    for name, moves in (("one", (step, 0)), ("two", (0, step))):
        up, down = (8 * terms(0.7 + s * moves[0], 0.4 + s * moves[1])[1].mean() for s in (1, -1))
        assert gradient[name] == pytest.approx((up - down) / (2 * step), rel=1e-3)


@pytest.mark.long
def test_a_weighting_is_of_the_simple_term_alone():
    _, _, plain = value_and_gradient(hybrid_loss)
    _, _, weighted = value_and_gradient(hybrid_loss, weighting=min_snr())
    np.testing.assert_array_equal(plain.aux["variational"], weighted.aux["variational"])
    assert not np.allclose(plain.aux["simple"], weighted.aux["simple"])


def test_the_simple_loss_ignores_the_variance():
    _, gradient, loss = value_and_gradient(denoising_loss, prediction=EPSILON_AND_VARIANCE)
    np.testing.assert_allclose(loss.values, terms(0.7, 0.4)[0], rtol=1e-4)
    assert gradient["two"] == 0


class Half(nn.Module):
    """A wave, and the fraction of the variance, a constant."""

    value: float

    @nn.compact
    def __call__(self, x, timesteps, train=False):
        noise = WavyDenoiser(name="wave")(x, timesteps)
        return jnp.concatenate([noise, jnp.full_like(x, self.value)], axis=-1)


def draw_and_bound(denoiser, prediction, variance, wave=True):
    params = {"wave": {"one": np.float32(1)}} if wave else {"one": np.float32(1)}
    variables = {"params": {"denoiser": params}}
    common = {"process": PROCESS, "prediction": prediction}
    draw = partial(sample, shape=(4, 4, 1), solver=ancestral(PROCESS, variance), **common)
    bound = partial(variational_bound, variance=variance, num_draws=3, **common)
    keys = {"example": jax.random.key(0)}
    batch = {name: values[:4] for name, values in BATCH.items()}
    found = []
    for function in (draw, lambda nets, batch: bound(nets, batch).values):
        apply = jax.jit(partial(nn.apply(function, Networks(denoiser)), variables, rngs=keys))
        found.append(np.asarray(apply(batch)))
    return found


@pytest.mark.long
def test_ends_of_the_range_are_the_fixed_variances():
    """A network that always says -1 samples with, and is scored by, the posterior's variances."""
    ours = draw_and_bound(Half(-1.0), EPSILON_AND_VARIANCE, learned_range)
    fixed = draw_and_bound(WavyDenoiser(), EPSILON, fixed_small, wave=False)
    for one, other in zip(ours, fixed, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    others = draw_and_bound(Half(1.0), EPSILON_AND_VARIANCE, learned_range)
    for one, other in zip(ours, others, strict=True):
        assert np.abs(one - other).max() > 1e-3


def test_the_reverse_step_agrees_with_diffusers():
    torch, diffusers = require("torch", "diffusers")
    scheduler = diffusers.DDPMScheduler(beta_schedule="linear", variance_type="learned_range")
    values = torch.linspace(-1, 1, 7)
    for timestep in (1, 10, 999):
        theirs = scheduler._get_variance(timestep, predicted_variance=values).exp()
        ends = jnp.asarray(learned_range(PROCESS)[:, timestep], jnp.float32)
        ours = between(ends, (jnp.asarray(values.numpy()) + 1) / 2)
        np.testing.assert_allclose(ours, theirs, rtol=5e-3)


def test_variances_are_not_guided():
    def network(noisy, times, label):
        factor = label[:, None, None, None].astype(jnp.float32)
        return jnp.concatenate([factor * noisy, factor + 0 * noisy], axis=-1)

    noisy = jnp.ones((2, 2, 2, 1))
    guide = classifier_free(3.0, label=10)
    found = guide(network, noisy, jnp.array([1, 2]), {"label": jnp.array([4, 7])})
    np.testing.assert_allclose(found[:, 0, 0, 0], [10 + 3 * (4 - 10), 10 + 3 * (7 - 10)])
    np.testing.assert_allclose(found[:, 0, 0, 1], [4, 7])


def test_what_has_no_variance_is_refused():
    draw = partial(sample, process=PROCESS, shape=(4, 4, 1))
    bound = partial(variational_bound, process=PROCESS, variance=learned_range)
    learned = partial(draw, solver=ancestral(PROCESS, learned_range))
    with pytest.raises(GenaxError, match="takes learned variances, but the prediction has none"):
        run(learned, WavyDenoiser(), BATCH)
    with pytest.raises(GenaxError, match="takes learned variances, but the prediction has none"):
        run(bound, WavyDenoiser(), BATCH)
    with pytest.raises(
        GenaxError, match=r"has 1 channels; .* with learned variance it has to have 2"
    ):
        run(partial(learned, prediction=EPSILON_AND_VARIANCE), WavyDenoiser(), BATCH)
    with pytest.raises(GenaxError, match=r"has 2 channels; .* without learned variance .* have 1"):
        value_and_gradient(denoising_loss)


def test_a_clean_image_may_come_with_its_variance():
    _, _, loss = value_and_gradient(hybrid_loss, prediction=with_variance(CLEAN))
    assert np.isfinite(loss.values).all()


@pytest.mark.parametrize("loss", [denoising_loss, hybrid_loss, variational_bound])
def test_images_of_another_range_are_refused(loss):
    def call(image):
        function = partial(loss, process=PROCESS, condition=lambda *_: {})
        keys = {"example": jax.random.key(0)}
        batch = {"image": image, "index": np.arange(len(image))}
        nn.apply(function, Networks(Both()))({"params": {}}, batch, rngs=keys)

    with pytest.raises(GenaxError, match="images of uint8: it takes floats"):
        call(LEVELS.astype(np.uint8))
    with pytest.raises(GenaxError, match=r"images from 0 to 255: it takes floats in \[-1, 1\]"):
        call(np.array([0.0, 255.0], np.float32).reshape(2, 1, 1, 1))


@pytest.mark.long
def test_labels_are_a_condition_of_each_loss():
    seen = []

    class Labelled(Both):
        @nn.compact
        def __call__(self, x, timesteps, train=False, label=None):
            seen.append(label.shape)
            one = self.param("one", nn.initializers.ones, ())
            return one * jnp.concatenate([x, x], axis=-1)

    for loss in (hybrid_loss, variational_loss):
        function = partial(loss, process=SMALL, condition=on_label)
        run(function, Labelled(), BATCH | {"label": np.arange(64) % 10})
    assert seen == [(64,)] * 2
