"""The parts of the divergence, against numpy in float64, and the weights that estimate them."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from genax.core import GenaxError
from genax.vae.total_correlation import Rows, beta_tc_loss, divergence_parts, sampling_weights

BATCH, LATENT, DATASET = 6, 3, 40
parts_of = jax.jit(divergence_parts)


def rows_of(latent=LATENT):
    rng = np.random.default_rng(0)
    drawn = [rng.normal(size=(BATCH, latent)).astype(np.float32) for _ in range(3)]
    return Rows(jnp.arange(BATCH, dtype=jnp.float32), *map(jnp.asarray, drawn))


def weights_by_hand(stratified):
    """Element by element, as appendix C.2 says."""
    if not stratified:
        return np.full((BATCH, BATCH), 1 / (BATCH * DATASET))
    others = BATCH - 1
    found = np.full((BATCH, BATCH), 1 / others)
    for own in range(BATCH):
        found[own, own] = 1 / DATASET
        found[own, (own + 1) % BATCH] = (DATASET - others) / (DATASET * others)
    return found


def parts_by_hand(rows, weights):
    """One element and one dimension at a time, by scipy's densities."""
    _, z, mean, log_variance = (np.asarray(one, np.float64) for one in rows)
    deviation = np.exp(0.5 * log_variance)
    found = []
    for own in range(BATCH):
        log_q = stats.norm.logpdf(z[own], mean, deviation)
        given = log_q[own].sum()
        joint = special.logsumexp(log_q.sum(1), b=weights[own])
        each = special.logsumexp(log_q, axis=0, b=weights[own][:, None]).sum()
        prior = stats.norm.logpdf(z[own]).sum()
        found.append((given - joint, joint - each, each - prior))
    return np.array(found).T


@pytest.mark.parametrize("stratified", [False, True])
def test_parts_are_those_of_numpy(stratified):
    rows, weights = rows_of(), weights_by_hand(stratified)
    found = jax.jit(sampling_weights, static_argnums=(0, 1, 2))(BATCH, DATASET, stratified)
    np.testing.assert_allclose(np.exp(found), weights, rtol=1e-6)
    expected = parts_by_hand(rows, weights)
    np.testing.assert_allclose(parts_of(rows, found), expected, rtol=1e-5)


def test_the_gradient_is_that_of_numpy():
    rows, weights, step = rows_of(), weights_by_hand(True), 1e-6

    def loss(rows):
        found = beta_tc_loss(nn.Module(), {"step": 0}, rows, DATASET, 6.0, 0.7, 1.3, True)
        return found.values.mean()

    def by_hand(name, place, by):
        exact = {one: np.asarray(getattr(rows, one), np.float64) for one in Rows._fields}
        exact[name] = exact[name].copy()
        exact[name][place] += by
        parts = parts_by_hand(Rows(**exact), weights)
        return (exact["reconstruction"] + np.dot([0.7, 6.0, 1.3], parts)).mean()

    value, gradient = jax.jit(jax.value_and_grad(loss))(rows)
    np.testing.assert_allclose(value, by_hand("latent", (0, 0), 0.0), rtol=1e-6)
    for name in ("latent", "mean", "log_variance"):
        for place in ((0, 0), (3, 1), (5, 2)):
            ends = [by_hand(name, place, side * step) for side in (1, -1)]
            slope = (ends[0] - ends[1]) / (2 * step)
            np.testing.assert_allclose(getattr(gradient, name)[place], slope, rtol=1e-4, atol=1e-5)


def test_the_parts_add_up_to_the_log_ratio():
    """Whatever the weights: log q(z|x) - log p(z), whose mean is the divergence."""
    rows = rows_of()
    parts = parts_of(rows, sampling_weights(BATCH, DATASET, False))
    _, z, mean, log_variance = map(np.asarray, rows)
    expected = stats.norm.logpdf(z, mean, np.exp(0.5 * log_variance)) - stats.norm.logpdf(z)
    np.testing.assert_allclose(sum(parts), expected.sum(1), rtol=1e-4, atol=1e-5)


def test_one_dimension_has_no_total_correlation():
    parts = parts_of(rows_of(latent=1), sampling_weights(BATCH, DATASET, True))
    np.testing.assert_allclose(parts.total_correlation, 0.0, atol=1e-6)


@pytest.mark.parametrize(("size", "dataset"), [(1, 40), (41, 40), (3, 2)])
def test_batches_that_cannot_be_stratified(size, dataset):
    with pytest.raises(GenaxError, match=f"2 to dataset_size={dataset} examples, not {size}"):
        sampling_weights(size, dataset, True)


@pytest.mark.parametrize(("size", "dataset"), [(2, 2), (40, 40)])
def test_a_batch_may_be_the_whole_data(size, dataset):
    weights = np.exp(sampling_weights(size, dataset, True))
    np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-5)
    assert (weights > 0).all()
