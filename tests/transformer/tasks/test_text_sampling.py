"""Texts that continue a prompt."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tokenizers

from genax.core import GenaxError
from genax.data.text.tokenizers import Bytes, Subwords, save_tokenizer
from genax.transformer.gpt import GPT
from genax.transformer.networks import Networks
from genax.transformer.tasks.language_model import language_model
from genax.transformer.tasks.text_sampling import as_text, encode_prompt, sample_tokens

CONTEXT = 12


@pytest.fixture
def workdir(tmp_path):
    save_tokenizer(Bytes(), tmp_path)
    return tmp_path


def draw(batch, num_tokens, start_token=10, **settings):
    networks = Networks(GPT(256, CONTEXT, 16, 1, 2, init_scale=0.5))
    tokens = jnp.zeros((1, 4), jnp.int32)
    variables = jax.jit(nn.init(lambda nets: nets.decoder(tokens), networks))(jax.random.key(1))
    function = nn.apply(
        lambda nets: sample_tokens(nets, batch, num_tokens, start_token, **settings), networks
    )
    return np.asarray(jax.jit(function)(variables, rngs={"example": jax.random.key(2)}))


def test_samples_begin_with_the_prompt(workdir):
    prompt = encode_prompt("to be", 3, workdir, CONTEXT, 256)
    drawn = draw({"index": np.arange(3)} | prompt, CONTEXT)
    assert drawn.shape == (3, CONTEXT)
    assert as_text(drawn, {}, workdir).count("\nto be") == 3
    assert len({row.tobytes() for row in drawn}) == 3


@pytest.mark.long
def test_samples_of_a_model_with_more_rows_than_tokens(workdir):
    networks = Networks(GPT(512, CONTEXT, 16, 1, 2, init_scale=0.5))
    tokens = jnp.zeros((1, 4), jnp.int32)
    variables = nn.init(lambda nets: nets.decoder(tokens), networks)(jax.random.key(1))
    draw = nn.apply(lambda nets: sample_tokens(nets, {"index": np.arange(3)}, 8, 10), networks)
    drawn = np.asarray(draw(variables, rngs={"example": jax.random.key(2)}))
    assert drawn.max() > 255
    texts = as_text(drawn, {}, workdir).split("---")
    for row, text in zip(drawn, texts[1:], strict=True):
        assert text.count("�") >= (row > 255).sum()


@pytest.mark.parametrize("number", [600, 70_000])
def test_a_token_beyond_the_model_s_rows(number, tmp_path):
    vocabulary = {"[UNK]": 0, "to": 1, "be": number}
    model = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    save_tokenizer(Subwords(model), tmp_path)
    with pytest.raises(GenaxError, match=f"up to number {number}, the model up to 59"):
        encode_prompt("be", 1, tmp_path, CONTEXT, 60)
    model_rows = encode_prompt("be", 2, tmp_path, CONTEXT, number + 1)
    assert model_rows["prompt"].tolist() == [[number]] * 2


def test_samples_without_a_prompt():
    assert draw({"index": np.arange(3)}, 4).shape == (3, 4)


def test_a_start_token_that_is_none():
    with pytest.raises(GenaxError, match="start_token=256 is not among the model's 256 tokens"):
        language_model(GPT(256, 4, 8, 1, 2), optax.sgd(1.0), 256, 1.0)


def test_a_repetition_penalty_repeats_less():
    def repeated(penalty):
        drawn = draw({"index": np.arange(8)}, CONTEXT - 1, 0, repetition_penalty=penalty)
        return np.mean([len(set(row.tolist())) for row in drawn])

    assert repeated(10.0) > repeated(1.0)


@pytest.mark.parametrize("text", ["", "a" * CONTEXT])
def test_prompts_that_do_not_fit(text, workdir):
    with pytest.raises(GenaxError, match=f"--prompt has {len(text)} tokens"):
        encode_prompt(text, 1, workdir, CONTEXT, 256)


def test_the_tokenizer_of_another_model(workdir):
    with pytest.raises(GenaxError, match="up to number 255, the model up to 254"):
        encode_prompt("to be", 1, workdir, CONTEXT, 255)


def test_a_sample_ends_before_the_end_token(workdir):
    rows = np.array([list(b"a\nb\nc"), list(b"a\nbcd")])
    shown = as_text(rows, {"prompt": rows[:, :2]}, workdir, end_token=(10, 300))
    assert shown == "--- 0\na\nb\n\n--- 1\na\nbcd\n"
    assert as_text(rows[:1], {}, workdir, end_token=(10,)) == "--- 0\na\n"
    with pytest.raises(GenaxError, match="end_token=256 is not among the model's 256 tokens"):
        language_model(GPT(256, 4, 8, 1, 2), optax.sgd(1.0), 0, 1.0, end_token=(10, 256))


def test_a_prompt_begins_as_the_tokenizer_says(tmp_path):
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<s>": 0, "a": 1, "?": 2}, "?"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    save_tokenizer(Subwords(model), tmp_path)
    assert encode_prompt("a b", 1, tmp_path, CONTEXT, 3)["prompt"].tolist() == [[0, 1, 2]]


@pytest.mark.long
def test_rows_shorter_than_the_positions(workdir):
    """Samples are as long as rows, prompts as long as there are positions."""
    task = language_model(GPT(256, CONTEXT, 16, 1, 2), optax.sgd(1.0), 10, 1.0, context=6)
    sampler, networks = task.samplers["text"], task.networks
    variables = jax.jit(nn.init(lambda nets: nets.decoder(jnp.zeros((1, 4), jnp.int32)), networks))(
        jax.random.key(1)
    )
    for text, length in {"": 5, "abc": 8, "abcdefghij": CONTEXT}.items():
        prompt = sampler.prompt(text, 1, workdir) if text else {}
        batch = {"index": np.arange(1)} | prompt
        drawn = nn.apply(lambda nets, batch=batch: sampler.function(nets, batch), networks)(
            variables, rngs={"example": jax.random.key(2)}
        )
        assert drawn.shape == (1, length)
