"""Generation: with the cache as without it, sampling, refusals."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.transformer.beam_search import beam_search
from genax.transformer.decoder import table_scores
from genax.transformer.decoding import generate, likeliest, next_tokens
from genax.transformer.gpt import GPT

KEYS = jax.random.split(jax.random.key(0), 3)
PROMPTS = jnp.asarray(np.random.default_rng(0).integers(0, 19, (3, 4)))


@pytest.fixture(scope="module", params=[False, True], ids=["layers", "scanned"])
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
    "setting", [{"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"repetition_penalty": 0.0}]
)
def test_settings_that_draw_nonsense(setting, model):
    with pytest.raises(GenaxError, match=next(iter(setting))):
        run(model, 3, **setting)


@pytest.mark.parametrize(
    ("settings", "about"),
    [
        ({"num_beams": 0}, "num_beams=0"),
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
