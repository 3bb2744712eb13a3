"""Autoencoders of tokens: the bound by numpy, and that writing agrees with reading."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.data.text.lines import BEGIN, END, PAD
from genax.vae.networks import Networks
from genax.vae.recurrent import GRUDecoder, GRUEncoder
from genax.vae.sequences import (
    interpolate_rows,
    reconstruct_rows,
    right_rows,
    sample_rows,
    sequence_elbo,
    sequence_elbo_loss,
    write_rows,
)

NETWORKS = Networks(
    GRUEncoder(vocab_size=9, hidden_size=7, latent_size=3),
    GRUDecoder(vocab_size=9, hidden_size=8, num_layers=2, embed_size=4),
)
RNGS = {"params": jax.random.key(0), "example": jax.random.key(1)}
TOKENS = np.full((5, 8), PAD, np.int32)
for number, length in enumerate((6, 1, 3, 0, 4)):
    drawn = np.random.default_rng(number).integers(3, 9, length)
    TOKENS[number, : length + 2] = [BEGIN, *drawn, END]
BATCH = {"tokens": jnp.asarray(TOKENS), "index": jnp.arange(5)}
VARIABLES = jax.tree.map(
    lambda leaf: 3 * leaf, jax.jit(nn.init(sequence_elbo_loss, NETWORKS))(RNGS, BATCH)
)


def call(function, batch=BATCH, seed=1):
    rngs = {"example": jax.random.key(seed)}
    return jax.jit(nn.apply(function, NETWORKS))(VARIABLES, dict(batch), rngs=rngs)


def test_bound_by_numpy():
    def parts(nets, batch):
        posterior = nets.encoder(batch["tokens"])
        return posterior.mean, posterior.log_variance

    mean, log_variance = (np.asarray(x, np.float64) for x in call(parts))
    loss = call(partial(sequence_elbo_loss, beta=2.0))
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(-1)
    np.testing.assert_allclose(loss.aux["kl"], kl, rtol=1e-5)
    np.testing.assert_allclose(loss.values, loss.aux["reconstruction"] + 2 * kl, rtol=1e-5)
    np.testing.assert_allclose(-call(sequence_elbo).values, loss.values - kl, rtol=1e-5)

    def narrow(nets, batch):
        """The bound of a posterior that is a point."""
        posterior = nets.encoder(batch["tokens"])
        tokens = batch["tokens"]
        return nets.decoder(posterior.mean, tokens[:, :-1])

    found = np.asarray(call(narrow), np.float64)
    log_probs = found - np.log(np.exp(found).sum(-1, keepdims=True))
    expected = [
        -sum(log_probs[row, place, TOKENS[row, place + 1]] for place in range(length + 1))
        for row, length in enumerate((6, 1, 3, 0, 4))
    ]
    points = jax.tree.map_with_path(
        lambda path, leaf: leaf - 40.0 * ("log_variance" in jax.tree_util.keystr(path)), VARIABLES
    )
    bound = jax.jit(nn.apply(sequence_elbo_loss, NETWORKS))
    found = bound(points, BATCH, rngs={"example": jax.random.key(1)})
    np.testing.assert_allclose(found.aux["reconstruction"], expected, rtol=2e-3)


def test_padding_changes_nothing():
    wide = np.concatenate([TOKENS, np.full((5, 4), PAD, np.int32)], axis=1)
    plain, padded = call(sequence_elbo), call(sequence_elbo, {**BATCH, "tokens": wide})
    np.testing.assert_allclose(plain.values, padded.values, rtol=1e-5)


def test_hidden_characters_are_the_decoders_alone():
    plain = call(sequence_elbo_loss)
    hidden = call(partial(sequence_elbo_loss, word_dropout=0.8))
    np.testing.assert_allclose(plain.aux["kl"], hidden.aux["kl"], rtol=1e-6)
    assert not np.allclose(plain.aux["reconstruction"], hidden.aux["reconstruction"])
    unseen = call(partial(sequence_elbo_loss, word_dropout=0.8, train=False))
    np.testing.assert_allclose(plain.values, unseen.values, rtol=1e-6)


def test_the_likeliest_rows_are_those_that_reading_them_gives():
    """Token by token with states, as all at once."""

    def greedy(nets, batch):
        z = nets.encoder(batch["tokens"]).mean
        rows = write_rows(nets, batch, z, 7, temperature=0.0)
        before = jnp.concatenate([jnp.full((5, 1), BEGIN), rows[:, :-1]], axis=1)
        return rows, nets.decoder(z, before)

    rows, logits = map(np.array, call(greedy))
    logits[..., [PAD, BEGIN]] = -np.inf
    ended = np.cumsum(rows == END, axis=1) - (rows == END) > 0
    np.testing.assert_array_equal(rows, np.where(ended, PAD, logits.argmax(-1)))
    np.testing.assert_array_equal(rows, call(reconstruct_rows))


def test_samples_belong_to_their_element_and_end():
    sample = partial(sample_rows, length=12)
    index = {"index": jnp.arange(40)}
    rows = np.asarray(call(sample, index))
    assert rows.shape == (40, 12)
    assert not (rows == BEGIN).any()
    for row in rows:
        (ends,) = np.nonzero(row == END)
        assert len(ends) <= 1
        assert (row[ends[0] + 1 :] == PAD).all() if len(ends) else not (row == PAD).any()
    np.testing.assert_array_equal(call(sample, {"index": jnp.arange(7, 12)}), rows[7:12])
    assert not np.array_equal(call(sample, index, seed=2), rows)


def test_samples_have_the_decoders_probabilities():
    sample = partial(sample_rows, length=1)
    found = np.asarray(call(sample, {"index": jnp.arange(4_000)}))[:, 0]

    def chances(nets, batch):
        logits = nets.decoder(batch["z"], jnp.full((len(batch["z"]), 1), BEGIN))[:, 0]
        return jax.nn.softmax(logits.at[:, jnp.array([PAD, BEGIN])].set(-jnp.inf))

    z = jax.random.normal(jax.random.key(5), (4_000, 3))
    expected = np.asarray(call(chances, {"z": z})).mean(0)
    np.testing.assert_allclose(np.bincount(found, minlength=9) / 4_000, expected, atol=0.03)


def test_right_rows():
    rows = call(reconstruct_rows)
    score = call(right_rows)
    same = np.asarray(rows) == TOKENS[:, 1:]
    np.testing.assert_array_equal(score.values, same.all(-1))
    np.testing.assert_array_equal(score.aux["tokens"].weights, TOKENS[:, 1:] != PAD)


def test_ways_begin_and_end_with_reconstructions():
    batch = {**BATCH, "other": jnp.roll(BATCH["tokens"], -1, axis=0)}
    rows = np.asarray(call(interpolate_rows, batch))
    assert rows.shape == (5, 6, 7)
    ends = np.asarray(call(reconstruct_rows))
    np.testing.assert_array_equal(rows[:, 0], ends)
    np.testing.assert_array_equal(rows[:, -1], np.roll(ends, -1, axis=0))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_networks_compute_in_their_dtype_with_float32_parameters(dtype):
    networks = Networks(
        GRUEncoder(9, 7, 3, dtype=dtype), GRUDecoder(9, 8, 2, embed_size=4, dtype=dtype)
    )
    shapes = jax.eval_shape(nn.init(sequence_elbo_loss, networks), RNGS, BATCH)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
