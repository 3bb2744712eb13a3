"""Decoding agrees with transformers' generate, token for token, and with decoding uncached."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.interop import load_pretrained
from genax.transformer.beam_search import beam_search
from genax.transformer.decoding import generate, keep_likeliest, penalise
from tests.interop.agreement import CASES, make_reference
from tests.parity import require

BY_NAME = {case.name: case for case in CASES}
DECODERS = [("GPT2LMHeadModel", 0), ("GPT2LMHeadModel", 1), ("LlamaForCausalLM", 0)]
DECODERS += [("LlamaForCausalLM", 1), ("LlamaForCausalLM", 2), ("GPT2LMHeadModel", 3)]
PROMPT, NEW = 5, 7


def reference(name, number, tmp_path):
    case = BY_NAME[name]
    model = make_reference(case, case.sizes[number])
    model.save_pretrained(tmp_path)
    return model, *load_pretrained(tmp_path)


def make_prompts(vocab_size, pads=0):
    prompts = np.random.default_rng(3).integers(2, vocab_size, (3, PROMPT))
    mask = np.ones((3, PROMPT), np.int64)
    mask[1, :pads] = 0
    return prompts, mask


def theirs(model, prompts, mask, **settings):
    [torch] = require("torch")
    settings = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None} | settings
    found = model.generate(
        input_ids=torch.from_numpy(prompts),
        attention_mask=torch.from_numpy(mask),
        max_new_tokens=NEW,
        **settings,
    )
    new = found[:, prompts.shape[1] :].numpy()
    return np.pad(new, ((0, 0), (0, NEW - new.shape[1])))


def ours(module, variables, prompts, mask, **settings):
    keys = jax.random.split(jax.random.key(0), len(prompts))
    arrays = jnp.asarray(prompts), jnp.asarray(mask > 0)

    def draw(model, prompts, mask):
        return generate(model.decoder, prompts, NEW, keys, mask, temperature=0.0, **settings)

    return jax.jit(nn.apply(draw, module))(variables, *arrays)


@pytest.mark.long
@pytest.mark.parametrize(("name", "number"), DECODERS)
@pytest.mark.parametrize("pads", [0, 2])
def test_greedy(name, number, pads, tmp_path):
    model, module, variables = reference(name, number, tmp_path)
    prompts, mask = make_prompts(41, pads)
    found = ours(module, variables, prompts, mask)
    np.testing.assert_array_equal(found, theirs(model, prompts, mask))

    @jax.jit
    def uncached(tokens, mask):
        positions = jnp.maximum(mask.cumsum(1) - 1, 0)
        return module.apply(variables, tokens, mask, positions).logits[:, -1].argmax(-1)

    tokens, real = prompts, mask
    for number in range(3):
        token = uncached(jnp.asarray(tokens), jnp.asarray(real))
        np.testing.assert_array_equal(found[:, number], token)
        tokens = np.concatenate([tokens, np.asarray(token)[:, None]], axis=1)
        real = np.concatenate([real, np.ones((3, 1), np.int64)], axis=1)


@pytest.mark.long
@pytest.mark.parametrize("name", ["MambaForCausalLM", "Mamba2ForCausalLM"])
def test_greedy_by_a_state(name, tmp_path):
    """Recurrent models, also of prompts that are shorter than the convolution."""
    model, module, variables = reference(name, 0, tmp_path)
    for length, pads in ((PROMPT, 2), (2, 0)):
        prompts, mask = (rows[:, :length] for rows in make_prompts(41, pads))
        found = ours(module, variables, prompts, mask)
        np.testing.assert_array_equal(found, theirs(model, prompts, mask))


def test_padding_on_the_right_is_padding_on_the_left(tmp_path):
    _, module, variables = reference("LlamaForCausalLM", 0, tmp_path)
    prompts, mask = make_prompts(41, pads=2)
    left = ours(module, variables, prompts, mask)
    turned = prompts.copy()
    turned[1] = np.roll(prompts[1], -2)
    right = mask.copy()
    right[1] = np.roll(mask[1], -2)
    np.testing.assert_array_equal(ours(module, variables, turned, right), left)


def test_sequences_end_one_by_one(tmp_path):
    model, module, variables = reference("GPT2LMHeadModel", 0, tmp_path)
    prompts, mask = make_prompts(41)
    whole = np.asarray(ours(module, variables, prompts, mask))
    end = int(whole[0, 2])
    found = np.asarray(ours(module, variables, prompts, mask, end_token=end))
    np.testing.assert_array_equal(found, theirs(model, prompts, mask, eos_token_id=end))
    assert np.all(found[0, 3:] == 0)


@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_repetition_penalty(penalty, tmp_path):
    model, module, variables = reference("LlamaForCausalLM", 0, tmp_path)
    prompts, mask = make_prompts(41)
    found = ours(module, variables, prompts, mask, repetition_penalty=penalty)
    expected = theirs(model, prompts, mask, repetition_penalty=penalty)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("top_k", "top_p"), [(5, None), (None, 0.7), (8, 0.9), (None, 1e-6)])
def test_the_likeliest_are_theirs(top_k, top_p):
    torch, transformers = require("torch", "transformers")
    logits = np.random.default_rng(0).normal(0, 2, (4, 30)).astype(np.float32)
    expected = torch.from_numpy(logits)
    if top_k:
        expected = transformers.TopKLogitsWarper(top_k)(None, expected)
    if top_p:
        expected = transformers.TopPLogitsWarper(top_p)(None, expected)
    found = keep_likeliest(jnp.asarray(logits), top_k, top_p)
    np.testing.assert_array_equal(found, expected.numpy())


def test_penalise():
    logits = jnp.array([[2.0, -2.0, 1.0]])
    seen = jnp.array([[True, True, False]])
    np.testing.assert_allclose(penalise(logits, seen, 2.0), [[1.0, -4.0, 1.0]])


@pytest.mark.long
@pytest.mark.parametrize("number", [0, 1, 2, 3])
@pytest.mark.parametrize(("num_beams", "length_penalty"), [(1, 1.0), (3, 1.0), (4, 0.4), (2, 2.0)])
def test_beam_search(number, num_beams, length_penalty, tmp_path):
    [torch] = require("torch")
    model, module, variables = reference("MarianMTModel", number, tmp_path)
    source, mask = make_prompts(41)
    mask[2, 3:] = 0
    end = 7
    expected = model.generate(
        input_ids=torch.from_numpy(source),
        attention_mask=torch.from_numpy(mask),
        num_beams=num_beams,
        length_penalty=length_penalty,
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=end,
    ).numpy()[:, 1:]

    def draw(model, source, mask):
        net = model.transformer
        start = jnp.full((len(source), 1), model.start_token)
        memory = {"memory": net.encode(source, mask), "memory_mask": mask}
        return beam_search(net, start, NEW, num_beams, end, length_penalty, **memory)

    run = jax.jit(nn.apply(draw, module))
    found, scores = run(variables, jnp.asarray(source), jnp.asarray(mask > 0))
    expected = np.pad(expected, ((0, 0), (0, NEW - expected.shape[1])))
    np.testing.assert_array_equal(found, expected)
    assert np.all(np.asarray(scores) < 0)
