"""Tokens beyond a vocabulary are an error where they can be seen, and never a plausible output."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.transformer.bert import BERT
from genax.transformer.encoder_decoder import EncoderDecoder
from genax.transformer.gpt import GPT
from genax.transformer.t5 import T5

MODELS = {
    "GPT": (GPT(7, 4, 8, 1, 2), "__call__"),
    "BERT": (BERT(7, 4, 8, 1, 2), "__call__"),
    "EncoderDecoder": (EncoderDecoder(7, 4, 8, 1, 2), "encode"),
    "T5": (T5(7, 4, 8, 1, 2), "encode"),
}


@pytest.mark.long
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("token", [-100, 7])
def test_outside_the_vocabulary(name, token):
    module, method = MODELS[name]
    good = jnp.array([[1, 2], [3, 4]])
    variables = module.init(jax.random.key(0), good, method=method)
    with pytest.raises(GenaxError, match=rf"{name}: token {token} at \[1, 0\] is not in \[0, 7\)"):
        module.apply(variables, good.at[1, 0].set(token), method=method)


@pytest.mark.long
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("token", [-1, -100, 7])
def test_compiled_it_is_nan(name, token):
    module, method = MODELS[name]
    tokens = jnp.array([[1, 2], [3, token]])
    variables = module.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32), method=method)
    found = jax.jit(lambda v, tokens: module.apply(v, tokens, method=method))(variables, tokens)
    assert np.isnan(found[1, 1]).all()
    assert np.isfinite(found[0]).all()


def test_a_source_beyond_the_context():
    module = EncoderDecoder(7, 4, 8, 1, 2)
    with pytest.raises(GenaxError, match="a source of 5 tokens exceeds the context of 4"):
        module.init(jax.random.key(0), jnp.zeros((1, 5), jnp.int32), method="encode")
