"""The rule by which tokens are hidden, and the loss of pretraining."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import example_keys
from genax.core.gradients import sums_of
from genax.interop.bert import BertForPreTraining
from genax.transformer.bert import BERT, LinearHead, MaskedLMHead
from genax.transformer.tasks.bert_pretraining import Networks, pretraining_loss
from genax.transformer.tasks.masking import mask_tokens

VOCAB, MASK, LENGTH, MOST = 50, 4, 40, 8


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    size = 512
    tokens = jnp.asarray(rng.integers(5, VOCAB, (size, LENGTH)), jnp.int32)
    lengths = rng.integers(1, LENGTH + 1, size)
    lengths[0] = 0
    return tokens, jnp.asarray(np.arange(LENGTH) < lengths[:, None])


def test_how_many_where_and_what(rows):
    tokens, maskable = rows
    keys = jax.random.split(jax.random.key(0), len(tokens))
    masked = jax.jit(partial(mask_tokens, vocab_size=VOCAB, mask_token=MASK, most=MOST))(
        keys, tokens, maskable
    )
    real = np.asarray(maskable.sum(1))
    wanted = np.minimum(np.clip(np.round(0.15 * real), 1, MOST), real)
    np.testing.assert_array_equal(masked.weights.sum(1), wanted)

    chosen = np.asarray(masked.weights) > 0
    shown = np.asarray(jnp.take_along_axis(masked.tokens, masked.places, 1))
    np.testing.assert_array_equal(masked.targets, jnp.take_along_axis(tokens, masked.places, 1))
    assert np.asarray(jnp.take_along_axis(maskable, masked.places, 1))[chosen].all()
    np.testing.assert_array_equal(shown[~chosen], np.asarray(masked.targets)[~chosen])
    changed = np.asarray(masked.tokens != tokens).sum(1)
    assert (changed <= wanted).all()

    hidden = (shown == MASK)[chosen].mean()
    kept = (shown == np.asarray(masked.targets))[chosen].mean()
    assert hidden == pytest.approx(0.8, abs=0.03)
    # Of the tenth that becomes any token, one of fifty stays by chance.
    assert kept == pytest.approx(0.1 + 0.1 / VOCAB, abs=0.02)
    spread = np.bincount(np.asarray(masked.places)[chosen], minlength=LENGTH)
    assert (spread[:30] > 0).all()


@pytest.mark.long
def test_the_loss_is_that_of_the_published_heads(rows):
    tokens, maskable = (array[1:9] for array in rows)
    encoder = BERT(VOCAB, LENGTH, 16, 2, 2)
    nets = Networks(encoder, MaskedLMHead(), LinearHead(2))
    batch = {
        "tokens": tokens,
        "maskable": maskable,
        "real": maskable,
        "segments": (jnp.arange(LENGTH) > 7).astype(jnp.int32) * maskable,
        "follows": jnp.arange(8) % 2,
        "index": jnp.arange(8),
    }
    loss = partial(pretraining_loss, mask_token=MASK, most=MOST, train=False)
    keys = {"params": jax.random.key(1), "example": jax.random.key(2)}
    found, variables = _run(loss, nets, batch, keys)
    sums = sums_of(found)
    mean = sum(sums[part].total / sums[part].weight for part in ("masked", "next"))

    # The places that were drawn, told by drawing them again.
    def places(nets, batch):
        return mask_tokens(example_keys(nets, batch), tokens, maskable, VOCAB, MASK, most=MOST)

    masked, _ = _run(places, nets, batch, keys, variables)
    labels = jnp.full(tokens.shape, -100)
    row = jnp.arange(8)[:, None]
    labels = labels.at[row, masked.places].set(jnp.where(masked.weights > 0, masked.targets, -100))
    output = BertForPreTraining(encoder, MaskedLMHead(), LinearHead(2)).apply(
        variables,
        input_ids=masked.tokens,
        attention_mask=maskable.astype(jnp.int32),
        token_type_ids=batch["segments"],
        labels=labels,
        next_sentence_label=1 - batch["follows"],
    )
    np.testing.assert_allclose(mean, output.loss, rtol=1e-5)


def _run(function, nets, batch, keys, variables=None):
    if variables is None:
        variables = nn.init(function, nets)(keys, batch)
    rngs = {"example": keys["example"]}
    return nn.apply(function, nets)(variables, batch, rngs=rngs), variables
