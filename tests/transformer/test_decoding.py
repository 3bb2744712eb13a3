"""Generation: with the cache as without it, sampling, refusals."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.transformer.decoding import generate, next_tokens
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


def test_refusals(model):
    with pytest.raises(GenaxError, match="exceed the context of 14; ask for at most 10"):
        run(model, 11)
    with pytest.raises(GenaxError, match="at least one token"):
        run(model, 3, prompts=PROMPTS[:, :0])
