"""Cross-entropy, the next-token loss, its scores, and the optimizer."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import GenaxError
from genax.nn.optimizers import adamw, is_decayed
from genax.transformer.cross_entropy import chunked_cross_entropy, cross_entropy
from genax.transformer.gpt import GPT
from genax.transformer.networks import Networks
from genax.transformer.tasks.losses import next_token_loss
from genax.transformer.tasks.scores import next_token_scores

LOGITS = jnp.asarray(np.random.default_rng(0).normal(0, 3, (2, 5, 11)), jnp.float32)
TARGETS = jnp.asarray(np.random.default_rng(1).integers(0, 11, (2, 5)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_cross_entropy_and_its_gradient(dtype):
    logits = LOGITS.astype(dtype)

    def plain(logits):
        values = optax.softmax_cross_entropy_with_integer_labels(
            logits.astype(jnp.float32), TARGETS
        )
        return (values * jnp.arange(5.0)).sum(), values

    def ours(logits):
        values = cross_entropy(logits, TARGETS)
        return (values * jnp.arange(5.0)).sum(), values

    (_, expected), gradient = jax.value_and_grad(plain, has_aux=True)(logits)
    (_, values), found = jax.value_and_grad(ours, has_aux=True)(logits)
    assert values.dtype == jnp.float32
    assert found.dtype == dtype
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6)
    tolerance = 1e-6 if dtype == jnp.float32 else 1e-2
    np.testing.assert_allclose(
        found.astype(jnp.float32), gradient.astype(jnp.float32), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("target", [-1, -100, 11])
def test_a_target_outside_the_vocabulary_is_nan(target):
    """A set's test split often has the label -1: never a plausible loss."""
    targets = TARGETS.at[0, 1].set(target)
    found = jax.jit(cross_entropy)(LOGITS, targets)
    hidden = jnp.ones((2, 5, 3))
    chunked, hits = chunked_cross_entropy(hidden, jnp.ones((11, 3)), targets, 4)
    for nats in (found, chunked):
        assert np.isnan(nats[0, 1])
        assert np.isnan(nats).sum() == 1
    assert not hits[0, 1]


def test_cross_entropy_of_large_logits_is_finite():
    logits = jnp.array([[1e4, -1e4, 0.0]])
    value, gradient = jax.value_and_grad(lambda x: cross_entropy(x, jnp.array([1]))[0])(logits)
    assert value == 2e4
    np.testing.assert_array_equal(gradient, [[1, -1, 0]])


@pytest.fixture(scope="module")
def model():
    networks = Networks(GPT(11, 8, 16, 1, 2, dropout=0.3))
    tokens = jnp.asarray(np.random.default_rng(2).integers(0, 11, (3, 9)), jnp.int32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    batch = {"tokens": tokens}
    return networks, jax.jit(nn.init(next_token_loss, networks))(keys, batch), batch


def test_values_weights_and_accuracy(model):
    networks, variables, batch = model
    weights = (jnp.arange(8) < 5).astype(jnp.float32) * jnp.ones((3, 1))
    apply = nn.apply(lambda nets, batch: next_token_loss(nets, batch, train=False), networks)
    loss = jax.jit(apply)(variables, {**batch, "weights": weights})
    assert loss.values.shape == (3, 8)
    np.testing.assert_array_equal(loss.weights, weights)
    logits = networks.apply(variables, batch["tokens"][:, :-1], method=lambda n, t: n.decoder(t))
    np.testing.assert_array_equal(
        loss.aux["accuracy"].values, logits.argmax(-1) == batch["tokens"][:, 1:]
    )
    assert loss.values.mean() == pytest.approx(math.log(11), rel=0.1)


def test_only_training_drops(model):
    networks, variables, batch = model
    train = jax.jit(nn.apply(next_token_loss, networks))
    values = [train(variables, batch, rngs={"dropout": jax.random.key(i)}).values for i in (0, 1)]
    assert not np.array_equal(*values)
    evaluator = next_token_scores()
    rows = jax.jit(nn.apply(evaluator.function, networks))(variables, batch)
    scores = evaluator.summarize(jax.device_get(rows), None)
    assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]))
    assert scores["bits_per_token"] == pytest.approx(scores["loss"] / math.log(2))
    assert 0 <= scores["accuracy"] <= 1
    none = {name: 0 * array for name, array in jax.device_get(rows).items()}
    with pytest.raises(GenaxError, match="all weights are 0"):
        evaluator.summarize(none, None)


def test_decay_is_told_by_name(model):
    params = model[1]["params"]
    flat = {
        "decoder/blocks/attention/qkv/bias": jnp.ones((2, 3, 4)),
        "decoder/x/kernel": jnp.ones(1),
    }
    assert is_decayed(flat) == {
        "decoder/blocks/attention/qkv/bias": False,
        "decoder/x/kernel": True,
    }
    optimizer = adamw(0.1, weight_decay=0.5)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(lambda g, p: optimizer.update(g, optimizer.init(p), p))(zeros, params)
    block = updates["decoder"]["blocks_0"]
    np.testing.assert_allclose(
        block["feed_forward"]["expand"]["kernel"],
        -0.05 * params["decoder"]["blocks_0"]["feed_forward"]["expand"]["kernel"],
        rtol=1e-6,
    )
    assert not block["feed_forward_norm"]["scale"].any()


@pytest.mark.parametrize(("vocab", "chunk"), [(30, 8), (32, 8), (5, 8), (33, 33)])
def test_cross_entropy_in_chunks(vocab, chunk):
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(2, 7, 12)), jnp.float32)
    table = jnp.asarray(rng.normal(size=(vocab, 12)), jnp.float32)
    targets = jnp.asarray(rng.integers(0, vocab, (2, 7)))
    scale = jnp.asarray(rng.normal(size=(2, 7)), jnp.float32)

    def chunked(hidden, table):
        nats, hits = chunked_cross_entropy(hidden, table, targets, chunk)
        return (nats * scale).sum(), (nats, hits)

    def whole(hidden, table):
        logits = hidden @ table.T
        nats = cross_entropy(logits, targets)
        return (nats * scale).sum(), (nats, logits.argmax(-1) == targets)

    run = partial(jax.grad, argnums=(0, 1), has_aux=True)
    (found, (nats, hits)), (wanted, (expected, right)) = (
        jax.jit(run(function))(hidden, table) for function in (chunked, whole)
    )
    np.testing.assert_allclose(nats, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(hits, right)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_chunks_do_not_hold_all_logits():
    """Largest temporary of the compiled loss and gradient, at Llama 3's vocabulary."""
    hidden, table = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((512, 8), (128_256, 8)))
    targets = jax.ShapeDtypeStruct((512,), jnp.int32)

    def peak(loss):
        program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(hidden, table, targets)
        return program.compile().memory_analysis().temp_size_in_bytes

    whole = peak(lambda h, t, y: cross_entropy(h @ t.T, y).sum())
    chunked = peak(lambda h, t, y: chunked_cross_entropy(h, t, y, 4096)[0].sum())
    assert chunked < whole / 8
