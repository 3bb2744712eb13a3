"""Generation: with the cache as without it, sampling, refusals."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import GenaxError
from genax.transformer.beam_search import beam_search
from genax.transformer.decoder import table_scores
from genax.transformer.decoding import generate, keep_likeliest, likeliest, next_tokens
from genax.transformer.gpt import GPT
from genax.transformer.tasks.language_model import language_model

NAN, INF = float("nan"), float("inf")
KEYS = jax.random.split(jax.random.key(0), 3)
PROMPTS = jnp.asarray(np.random.default_rng(0).integers(0, 19, (3, 4)))


@pytest.fixture(
    scope="module",
    params=[False, pytest.param(True, marks=pytest.mark.long)],
    ids=["layers", "scanned"],
)
def model(request):
    decoder = GPT(19, 14, 24, 2, 3, scan_layers=request.param, init_scale=0.5)
    return decoder, jax.jit(decoder.init)(jax.random.key(1), PROMPTS)


def run(model, num_tokens, prompts=PROMPTS, keys=KEYS, **settings):
    decoder, variables = model
    function = nn.apply(lambda d: generate(d, prompts, num_tokens, keys, **settings), decoder)
    return jax.jit(lambda: function(variables))()


def test_cached_equals_uncached(model):
    """The logits of every step agree with those of the whole sequence read at once."""
    decoder, variables = model
    tokens = jnp.concatenate([PROMPTS, run(model, 10, temperature=0.0)], axis=1)
    whole = jax.jit(decoder.apply)(variables, tokens)
    np.testing.assert_array_equal(tokens[:, 4:], whole[:, 3:-1].argmax(-1))

    read = jax.jit(lambda tokens, cache: decoder.apply(variables, tokens, cache, method="decode"))
    logits, cache = read(tokens[:, :5], decoder.empty_cache(3, 14))
    np.testing.assert_allclose(logits, whole[:, 4], rtol=1e-5, atol=1e-5)
    for position in range(5, 14):
        logits, cache = read(tokens[:, position : position + 1], cache)
        np.testing.assert_allclose(logits, whole[:, position], rtol=1e-5, atol=1e-5)


def test_a_sample_does_not_depend_on_its_batch(model):
    together = run(model, 6, top_k=5)
    alone = run(model, 6, PROMPTS[1:2], KEYS[1:2], top_k=5)
    np.testing.assert_array_equal(together[1:2], alone)
    assert together.shape == (3, 6)


def test_next_tokens_follow_the_distribution():
    logits = jnp.log(jnp.array([0.5, 0.3, 0.15, 0.05]))
    keys = jax.random.split(jax.random.key(0), 4000)
    logits = jnp.broadcast_to(logits, (4000, 4))
    shares = np.bincount(next_tokens(keys, logits), minlength=4) / 4000
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.15, 0.05], atol=0.03)
    shares = np.bincount(next_tokens(keys, logits, top_k=2), minlength=4) / 4000
    np.testing.assert_allclose(shares, [0.625, 0.375, 0, 0], atol=0.03)
    shares = np.bincount(next_tokens(keys, logits, temperature=0.5), minlength=4) / 4000
    squares = np.array([0.25, 0.09, 0.0225, 0.0025])
    np.testing.assert_allclose(shares, squares / squares.sum(), atol=0.03)
    assert (next_tokens(keys, logits, temperature=0.0) == 0).all()


def test_the_fewest_tokens_are_kept_ties_included():
    kept = lambda *how: np.flatnonzero(np.isfinite(keep_likeliest(*how))[0])  # noqa: E731
    flat = jnp.zeros((1, 4))
    np.testing.assert_array_equal(kept(flat, None, 0.5), [0, 1])
    np.testing.assert_array_equal(kept(flat, 3), [0, 1, 2])
    np.testing.assert_array_equal(kept(flat, 2, 0.5), [0])
    signs = jnp.array([[-0.0, 0.0, -1.0, 0.0]])
    np.testing.assert_array_equal(kept(signs, 2), [0, 1])
    np.testing.assert_array_equal(kept(signs[:, :3], 4, 1.0), [0, 1, 2])


@pytest.mark.parametrize("top_k", [None, 400])
@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.99])
def test_bfloat16_keeps_as_many_as_float64(top_p, top_k):
    logits = jax.random.normal(jax.random.key(3), (200, 5000), jnp.bfloat16)
    exact = np.asarray(logits).astype(np.float64)
    order = np.argsort(-exact, axis=-1, kind="stable")[:, :top_k]
    weights = np.exp(np.take_along_axis(exact, order, axis=-1))
    sums = np.cumsum(weights, axis=-1) / weights.sum(-1, keepdims=True)
    # A sum nearer to p than float32 tells apart may round to either side of it.
    clear = np.abs(sums - top_p).min(-1) > 1e-6
    assert clear.sum() > 150
    expected = np.zeros(exact.shape, bool)
    ranks = np.arange(order.shape[1]) <= (sums < top_p).sum(-1, keepdims=True)
    np.put_along_axis(expected, order, ranks, axis=-1)
    found = jax.jit(lambda logits: keep_likeliest(logits, top_k, top_p))(logits)
    assert found.dtype == logits.dtype
    found, logits = np.asarray(found)[clear], np.asarray(logits)[clear]
    np.testing.assert_array_equal(np.isfinite(found), expected[clear])
    np.testing.assert_array_equal(found[expected[clear]], logits[expected[clear]])


@pytest.mark.parametrize("temperature", [1e-38, 1e-45, 1e-300, 1e-6])
def test_a_temperature_near_0_takes_the_likeliest(temperature):
    logits = jnp.array([[-3.0, -1.0, -2.0], [1e30, 2e30, -jnp.inf], [5.0, 0.0, 4.9]])
    found = jax.jit(lambda logits: next_tokens(KEYS, logits, temperature))(logits)
    np.testing.assert_array_equal(found, [1, 1, 0])


def test_the_likeliest_is_the_first_of_equals():
    logits = np.random.default_rng(0).integers(0, 5, (20, 30)).astype(np.float32)
    logits[0] = -np.inf
    np.testing.assert_array_equal(jax.jit(likeliest)(logits), logits.argmax(-1))
    assert likeliest(jnp.array([[1.0, jnp.nan, 0.0]]))[0] == 3


@pytest.mark.parametrize("token", [-1, 19])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_prompt_of_another_vocabulary_continues_with_no_token(token, temperature, model):
    """Where it cannot be an error, the prompt's values being unknown, it is no plausible text."""
    decoder, variables = model
    draw = nn.apply(
        lambda d, prompts: generate(
            d, prompts, 3, KEYS, None, temperature, 5, 0.9, repetition_penalty=1.2
        ),
        decoder,
    )
    found = np.asarray(jax.jit(draw)(variables, PROMPTS.at[1, 2].set(token)))
    assert (found[1] == 19).all()
    assert (found[[0, 2]] < 19).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (2, 7), (5, 13)])
def test_scores_of_few_and_many_are_the_same(shape):
    table = nn.Embed(23, 8)
    hidden = jax.random.normal(jax.random.key(0), (*shape, 8))
    variables = table.init(jax.random.key(1), hidden, method="attend")
    found = jax.jit(nn.apply(lambda table: table_scores(table, hidden), table))(variables)
    expected = hidden @ variables["params"]["embedding"].T
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_any_of_several_tokens_ends_a_sequence(model):
    free = np.asarray(run(model, 8, temperature=0.0))
    ends = (int(free[0, 2]), int(free[1, 4]))
    found = np.asarray(run(model, 8, temperature=0.0, end_token=ends, pad_token=18))
    for row, tokens in zip(found, free, strict=True):
        places = np.flatnonzero(np.isin(tokens, ends))
        length = places[0] + 1 if len(places) else 8
        np.testing.assert_array_equal(row[:length], tokens[:length])
        assert (row[length:] == 18).all()


def test_refusals(model):
    with pytest.raises(GenaxError, match="exceed the context of 14; ask for at most 10"):
        run(model, 11)
    with pytest.raises(GenaxError, match="at least one token"):
        run(model, 3, prompts=PROMPTS[:, :0])
    mask = jnp.ones((3, 4), bool).at[1].set(False)
    with pytest.raises(GenaxError, match=r"prompts \[1\] are all padding"):
        run(model, 3, mask=mask)
    with pytest.raises(GenaxError, match="end_token=19 is not among the model's 19 tokens"):
        run(model, 3, end_token=19)


@pytest.mark.parametrize(
    "setting",
    [
        *({"temperature": value} for value in (-1.0, NAN, INF, 1e39)),
        *({"top_k": value} for value in (0, -1)),
        *({"top_p": value} for value in (0.0, -0.1, 1.1, NAN)),
        *({"repetition_penalty": value} for value in (0.0, -1.0, NAN, INF, 1e39, 1e-39)),
    ],
)
def test_settings_that_draw_nonsense(setting, model):
    [(name, value)] = setting.items()
    with pytest.raises(GenaxError, match=re.escape(f"{name}={value} must be")):
        run(model, 3, **setting)
    with pytest.raises(GenaxError, match=re.escape(f"{name}={value} must be")):
        language_model(model[0], optax.sgd(1.0), 0, **{"temperature": 1.0} | setting)


@pytest.mark.parametrize(
    ("settings", "about"),
    [
        ({"num_beams": 0}, "num_beams=0"),
        ({"length_penalty": NAN}, "length_penalty=nan"),
        ({"length_penalty": 1e3}, "length_penalty=1000.0"),
        ({"num_best": 3}, "num_best=3"),
        ({"end_token": 19}, "end_token=19"),
        ({"forbidden": (3, -1)}, "forbidden=-1"),
    ],
)
def test_beams_that_cannot_be(settings, about, model):
    decoder, variables = model
    settings = {"num_beams": 2, "end_token": 1} | settings
    with pytest.raises(GenaxError, match=about):
        beam_search(decoder.bind(variables), PROMPTS, 3, **settings)


def test_prompts_of_one_shape_share_a_program(model):
    decoder, variables = model
    draw = nn.apply(lambda d, prompts: generate(d, prompts, 3, KEYS, end_token=2), decoder)
    compiled = jax.jit(draw)
    for shift in range(3):
        compiled(variables, (PROMPTS + shift) % 19)
    assert compiled._cache_size() == 1
