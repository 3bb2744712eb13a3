"""Smoothed labels, the loss of targets, the schedule, and what beam search writes."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import GenaxError
from genax.core.gradients import sums_of
from genax.data.text.text_pairs import END, PAD, START, TextPairs
from genax.data.text.tokenizers import Bytes
from genax.evaluation.generated_text import rouge_scores
from genax.transformer.cross_entropy import smoothed_cross_entropy
from genax.transformer.encoder_decoder import EncoderDecoder
from genax.transformer.t5 import T5
from genax.transformer.tasks.translation import Networks, target_loss, translation, write_targets
from tests.parity import require

VOCAB, LENGTH = 24, 9


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_smoothed_cross_entropy_and_its_gradient(smoothing):
    (torch,) = require("torch")
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 3, (6, 11)).astype(np.float32), rng.integers(0, 11, 6)
    theirs = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(
        theirs, torch.tensor(targets), label_smoothing=smoothing, reduction="sum"
    )
    loss.backward()
    ours, gradient = jax.value_and_grad(
        lambda x: smoothed_cross_entropy(x, jnp.asarray(targets), smoothing).sum()
    )(jnp.asarray(logits))
    np.testing.assert_allclose(ours, loss.item(), rtol=1e-6)
    np.testing.assert_allclose(gradient, theirs.grad, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module", params=[EncoderDecoder, T5], ids=lambda cls: cls.__name__)
def model(request):
    networks = Networks(request.param(VOCAB, LENGTH, 16, 1, 2, 32))
    rng = np.random.default_rng(1)

    def side(start, lengths, size):
        rows = rng.integers(3, VOCAB, (len(lengths), size))
        places = np.arange(size)
        rows = np.where(places == np.array(lengths)[:, None], END, rows)
        rows = np.where(places > np.array(lengths)[:, None], PAD, rows)
        if start:
            rows[:, 0] = START
        return jnp.asarray(rows, jnp.int32)

    batch = {
        "source": side(False, [3, 8, 1, 5], LENGTH),
        "target": side(True, [5, 2, 8, 9], LENGTH + 1),
        "index": jnp.arange(4),
    }
    loss = partial(target_loss, train=False)
    variables = jax.jit(nn.init(loss, networks))({"params": jax.random.key(0)}, batch)
    return networks, variables, batch


class Texts(TextPairs):
    """Bytes, a token each."""

    def opened(self, workdir):
        return self

    def get_tokenizer(self):
        return Bytes()


@pytest.mark.parametrize(("text", "fits"), [("", False), ("a" * (LENGTH - 1), True)])
def test_prompts_are_whole_or_refused(text, fits):
    net, data = EncoderDecoder(256, LENGTH, 8, 1, 2), Texts("set", LENGTH, 256)
    task = translation(net, optax.sgd(1.0), data, 0.1, 1, 0.6, rouge_scores, None)
    prompt = task.samplers["target"].prompt
    if fits:
        assert prompt(text, 2, None)["source"].tolist() == [[97] * (LENGTH - 1) + [END]] * 2
        text += "a"
    with pytest.raises(GenaxError, match=f"--prompt has {len(text)} tokens"):
        prompt(text, 1, None)


def test_padding_counts_for_nothing(model):
    networks, variables, batch = model
    apply = jax.jit(nn.apply(partial(target_loss, train=False), networks))
    whole = apply(variables, batch)
    np.testing.assert_array_equal(whole.weights.sum(1), [5, 2, 8, 9])
    for row, length in enumerate([5, 2, 8, 9]):
        alone = apply(variables, {name: array[row : row + 1] for name, array in batch.items()})
        np.testing.assert_allclose(
            whole.values[row, :length], alone.values[0, :length], rtol=2e-5, atol=2e-6
        )
    means = sums_of(whole)
    assert means["loss"].weight == means["nats"].weight == means["accuracy"].weight == 24


def test_one_beam_writes_the_likeliest_tokens(model):
    networks, variables, batch = model
    write = partial(write_targets, num_tokens=LENGTH - 1, num_beams=1)
    found = np.asarray(jax.jit(nn.apply(write, networks))(variables, batch))

    def logits(nets, tokens):
        net, source = nets.transformer, batch["source"]
        real = source != PAD
        return net(tokens, memory=net.encode(source, real), memory_mask=real)

    score = jax.jit(nn.apply(logits, networks))
    for row in range(4):
        tokens, ended = [START], False
        for place in range(LENGTH - 1):
            padded = np.zeros((4, LENGTH), np.int32)
            padded[:, : len(tokens)] = tokens
            step = np.asarray(score(variables, jnp.asarray(padded)))[row, place].copy()
            step[[PAD, START]] = -np.inf
            expected = PAD if ended else int(step.argmax())
            assert found[row, place] == expected
            ended |= expected == END
            tokens.append(expected)


@pytest.mark.parametrize(
    ("num_beams", "length_penalty", "said"),
    [(0, 0.6, "num_beams=0"), (1, float("inf"), "length_penalty=inf")],
)
def test_beams_are_checked_when_the_task_is_made(num_beams, length_penalty, said):
    net, data = T5(VOCAB, LENGTH, 16, 1, 2, 32), Texts("set", LENGTH, VOCAB)
    with pytest.raises(GenaxError, match=said):
        translation(net, optax.sgd(1.0), data, 0.1, num_beams, length_penalty, rouge_scores, None)
