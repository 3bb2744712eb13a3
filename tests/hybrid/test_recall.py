"""What is asked at the end of a sequence: by the whole of it at once, and in chunks."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.core.data import Shard, numeric
from genax.data import ImageData
from genax.data.synthetic.induction_heads import InductionHeads
from genax.data.synthetic.selective_copying import SelectiveCopying
from genax.hybrid.recall import (
    answer,
    as_answers,
    check_recall,
    read_in_chunks,
    recall_loss,
    recall_scores,
    recurrent_recall,
)
from genax.hybrid.s4d import S4D
from genax.transformer.llama import LLaMA
from genax.transformer.networks import Networks

COPYING = SelectiveCopying(length=17, num_tokens=4, vocab_size=8)
ATTENTION = LLaMA(8, 32, 16, 1, 2, mlp_size=16, init_scale=0.3)
DIAGONAL = S4D(8, 8, 1, state_size=4, init_scale=1.0)
BATCH = numeric(next(COPYING.train(3, 0, Shard())))


def drawn(network):
    return jax.jit(network.init)(jax.random.key(0), jnp.asarray(BATCH["tokens"]))


@pytest.fixture(scope="module")
def variables():
    return drawn(DIAGONAL)


def scored(loss, variables, batch, network=DIAGONAL):
    nets = {"params": {"decoder": variables["params"]}}
    return jax.jit(nn.apply(loss, Networks(network)))(nets, batch)


@pytest.fixture(scope="module")
def whole(variables):
    return scored(recall_loss, variables, BATCH)


def test_loss_is_that_of_the_last_positions(variables, whole):
    tokens = jnp.asarray(BATCH["tokens"])
    logits = np.asarray(jax.jit(DIAGONAL.apply)(variables, tokens))[:, -4:].astype(np.float64)
    likelihoods = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = -np.take_along_axis(likelihoods, BATCH["answers"][..., None], -1)[..., 0]
    np.testing.assert_allclose(whole.values, wanted, atol=1e-5)
    hits = logits.argmax(-1) == BATCH["answers"]
    np.testing.assert_array_equal(whole.aux["accuracy"], hits)
    np.testing.assert_array_equal(whole.aux["solved"], hits.all(1))


def test_chunks_are_the_whole(variables, whole):
    """A chunk that divides nothing."""
    found = scored(partial(recurrent_recall, chunk=5), variables, BATCH)
    np.testing.assert_allclose(found.values, whole.values, atol=1e-5)


def test_one_answer(variables, whole):
    """No token is read by itself, and one chunk holds all."""
    batch = {"tokens": BATCH["tokens"][:, :-3], "answers": BATCH["answers"][:, :1]}
    found = scored(partial(recurrent_recall, chunk=64), variables, batch)
    np.testing.assert_allclose(found.values, whole.values[:, :1], atol=1e-5)
    assert set(found.aux) == {"accuracy"}


@pytest.mark.long
def test_chunks_of_attention_are_the_whole():
    """Its scores are those of all keys; the last chunk is a single token."""
    variables = drawn(ATTENTION)
    whole = scored(recall_loss, variables, BATCH, ATTENTION)
    found = scored(partial(recurrent_recall, chunk=17), variables, BATCH, ATTENTION)
    np.testing.assert_allclose(found.values, whole.values, atol=1e-5)


def test_memory_is_that_of_one_chunk(variables):
    """Beside the tokens, of which each has eight numbers in a layer."""
    length = 2**20
    tokens = jax.ShapeDtypeStruct((1, length), np.int32)
    read = nn.apply(partial(read_in_chunks, count=1, chunk=64), DIAGONAL)
    program = jax.jit(read).lower(variables, tokens).compile()
    assert program.memory_analysis().temp_size_in_bytes < length / 8


def test_scores_read_as_much_as_their_budget_allows():
    scores = {
        length: recall_scores(InductionHeads(length=length), DIAGONAL, 64, tokens=1_000)
        for length in (3, 100, 4_096)
    }
    assert {length: one.data.size for length, one in scores.items()} == {3: 256, 100: 10, 4_096: 1}


def test_what_is_kept_of_a_sequence():
    """That of a state space is as large for any length, that of attention grows with it."""

    def kept(network, length):
        said = recall_scores(InductionHeads(length=length), network, 64).says
        assert said["tokens_of_a_sequence"] == length
        return said["bytes_kept_of_a_sequence"]

    # Two modes of eight channels, as two numbers of four bytes each.
    assert kept(DIAGONAL, 64) == kept(DIAGONAL, 2**20) == 8 * 2 * 2 * 4
    # Keys and values of width 16, and whether each is there.
    assert kept(ATTENTION, 128) - kept(ATTENTION, 64) == 64 * (2 * 16 * 4 + 1)


def test_answers_are_shown_beside_what_is_right(variables):
    found = scored(answer, variables, BATCH)
    assert found.shape == (3, 4)
    found, wanted = np.array([[1, 2], [3, 4]]), np.array([[1, 2], [3, 5]])
    shown = as_answers(found, {"answers": wanted}, None)
    assert shown == "0: 1 2\n1: 3 5, answered 3 4"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (ImageData("digits"), "the data has no 'answers'"),
        (InductionHeads(length=33, vocab_size=8), "33 tokens exceed the 32 positions"),
        (InductionHeads(length=9, vocab_size=9), "the data has 9 tokens, but the network 8"),
    ],
)
def test_data_that_does_not_fit_is_refused(data, words):
    with pytest.raises(GenaxError, match=words):
        check_recall(ATTENTION, data)


def test_a_length_beyond_the_positions_is_refused():
    read = nn.apply(partial(read_in_chunks, count=1, chunk=8), ATTENTION)
    with pytest.raises(GenaxError, match="leave that length out"):
        jax.eval_shape(read, {"params": {}}, jax.ShapeDtypeStruct((1, 33), np.int32))
