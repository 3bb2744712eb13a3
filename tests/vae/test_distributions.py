"""Log probabilities of every likelihood, and their gradients, against numpy in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from genax.core import GenaxError
from genax.vae.distributions import Bernoulli, DiscretisedLogistic, Gaussian
from genax.vae.likelihoods import LEAST_DEVIATION, LIKELIHOODS, likelihood_of

SIZE, LEVELS = 400, 256
HALF = 0.5 / (LEVELS - 1)
STEP = 1e-5


def bernoulli(x, logits):
    return x * np.log(special.expit(logits)) + (1 - x) * np.log(special.expit(-logits))


def fixed_gaussian(x, mean):
    return stats.norm.logpdf(x, special.expit(mean), 0.3)


def learned_gaussian(x, mean, log_variance):
    least = 2 * np.log(LEAST_DEVIATION)
    log_variance = least + np.log1p(np.exp(log_variance - least))
    return stats.norm.logpdf(x, special.expit(mean), np.exp(0.5 * log_variance))


def discretised_logistic(x, location, log_scale, levels=LEVELS):
    """The mass between the edges of a bin, of images in [-1, 1] as PixelCNN++ has them."""
    x, half = 2 * x - 1, 1 / (levels - 1)
    scale = np.exp(np.maximum(log_scale, -7))
    # In the upper tail the two masses below the edges are 1, so those above them are taken.
    sign = np.where(x > location, -1.0, 1.0)
    upper = np.where(x > 1 - half, np.inf, (x + half - location) / scale)
    lower = np.where(x < -1 + half, -np.inf, (x - half - location) / scale)
    return np.log(sign * (special.expit(sign * upper) - special.expit(sign * lower)))


REFERENCES = {
    "bernoulli": bernoulli,
    "gaussian": fixed_gaussian,
    "learned_gaussian": learned_gaussian,
    "discretised_logistic": discretised_logistic,
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_values_and_gradients_are_those_of_numpy(name):
    likelihood, rng = likelihood_of(name, deviation=0.3), np.random.default_rng(0)
    outputs = rng.normal(size=(len(likelihood.heads), SIZE)).astype(np.float32)
    if name == "discretised_logistic":
        outputs[1] -= 2.0
    x = rng.integers(0, LEVELS, SIZE) / np.float32(LEVELS - 1)
    # Both open ends, and a level next to each.
    x[:4] = np.float32([0, 1, LEVELS - 2, LEVELS - 1]) / np.float32(LEVELS - 1)
    if likelihood.binary:
        x = np.round(x)
    x = x.astype(np.float32)

    def log_prob(outputs):
        found = likelihood.distribution(*outputs).log_prob(jnp.asarray(x))
        return found.sum(), found

    gradient, found = jax.jit(jax.grad(log_prob, has_aux=True))(outputs)
    exact = outputs.astype(np.float64)
    reference = REFERENCES[name]
    np.testing.assert_allclose(found, reference(x.astype(np.float64), *exact), rtol=1e-5, atol=1e-5)
    for head, slope in enumerate(gradient):
        moved = np.zeros_like(exact)
        moved[head] = STEP
        ends = (reference(x.astype(np.float64), *(exact + side * moved)) for side in (1, -1))
        numeric = np.subtract(*ends) / (2 * STEP)
        np.testing.assert_allclose(slope, numeric, rtol=1e-4, atol=1e-4 * np.abs(numeric).max())


@pytest.mark.parametrize("levels", [2, 256])
def test_the_masses_of_all_levels_add_up_to_one(levels):
    location = jnp.linspace(-0.5, 1.5, 9)
    x = jnp.arange(levels)[:, None] / (levels - 1)

    @jax.jit
    def masses(log_scale):
        return jnp.exp(DiscretisedLogistic(location, log_scale, levels).log_prob(x)).sum(0)

    for log_scale in (-9.0, -3.0, 0.0, 3.0):
        np.testing.assert_allclose(masses(jnp.full(9, log_scale)), 1.0, rtol=2e-5)


def test_a_level_far_in_a_tail_has_a_number_and_a_slope():
    """float64 has sigmoid(a) - sigmoid(b) = 0 here, of which the logarithm is -inf."""

    def log_prob(location):
        return DiscretisedLogistic(location, jnp.float32(-8.0)).log_prob(jnp.float32(0.5))

    value, slope = jax.jit(jax.value_and_grad(log_prob))(jnp.float32(1.5))
    inverse = np.exp(8.0)
    expected = -(1.0 - HALF) * inverse + np.log1p(-np.exp(-2 * HALF * inverse))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(slope, -inverse, rtol=1e-5)


@pytest.mark.parametrize("log_scale", [-200.0, 200.0])
def test_any_scale_has_a_number_and_a_finite_slope(log_scale):
    make = likelihood_of("discretised_logistic").distribution
    x = jnp.array([0.0, 0.5, 1.0])

    def total(scale):
        return make(jnp.zeros(3), jnp.full(3, scale)).log_prob(x).sum()

    value, slope = jax.jit(jax.value_and_grad(total))(log_scale)
    assert np.isfinite([value, slope]).all()


def test_means_are_images():
    for name in LIKELIHOODS:
        likelihood = likelihood_of(name)
        outputs = jnp.linspace(-9, 9, 7)
        mean = likelihood.distribution(*[outputs] * len(likelihood.heads)).mean
        assert float(mean.min()) >= 0
        assert float(mean.max()) <= 1
        assert mean.shape == (7,)


def test_bernoulli_is_finite_at_extreme_logits():
    x = Bernoulli(jnp.float32([100.0, -100.0, 100.0])).log_prob(jnp.float32([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(x, [0.0, 0.0, -100.0], atol=1e-6)


def test_a_learned_deviation_has_a_bound_and_a_gradient_that_leads_away():
    """Constant images ask for a deviation of zero, whose density has no bound."""
    make = likelihood_of("learned_gaussian").distribution

    def log_prob(log_variance, x):
        return make(jnp.zeros(()), log_variance).log_prob(jnp.float32(x))

    best = log_prob(jnp.float32(-1e3), 0.5)
    np.testing.assert_allclose(best, -0.5 * np.log(2 * np.pi) - np.log(LEAST_DEVIATION), rtol=1e-6)
    assert jax.grad(log_prob)(jnp.float32(-14.0), 0.6) > 0


def test_kl_is_the_mean_of_the_log_ratio():
    q = Gaussian(jnp.float32([0.5, -1.0]), jnp.float32([-1.0, 0.3]))
    z = q.transform(jax.random.normal(jax.random.key(0), (200_000, 2)))
    standard = Gaussian(jnp.zeros(2), jnp.zeros(2))
    ratio = (q.log_prob(z) - standard.log_prob(z)).mean(0)
    np.testing.assert_allclose(q.kl_to_standard(), ratio, atol=0.01)


@pytest.mark.parametrize("name", sorted({*LIKELIHOODS} - {"bernoulli"}))
def test_a_likelihood_of_other_images_is_refused(name):
    with pytest.raises(GenaxError, match=f"likelihood={name} is not one of the zeros and ones"):
        likelihood_of(name, "static")
