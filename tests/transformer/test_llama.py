"""LLaMA's sizes."""

import jax
import jax.numpy as jnp
import pytest

from genax.core import GenaxError
from genax.transformer.llama import LLaMA
from tests.cli.command import call

TOKENS = jnp.zeros((1, 2), jnp.int32)
SIZES = {"vocab_size": 5, "context": 8, "hidden_size": 24, "num_layers": 1, "num_heads": 3}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"hidden_size": 27}, "3 heads of 9 at width 27 are odd"),
        ({"head_dim": 7}, "3 heads of 7 at width 24 are odd"),
        ({"num_kv_heads": 2}, "3 heads and 2 key heads do not divide"),
        ({"num_kv_heads": 0}, "num_kv_heads=0"),
        ({"num_heads": 0}, "num_heads=0"),
        ({"head_dim": -2}, "head_dim=-2: each has to be 1 or more"),
        ({"theta": 0.0}, "theta=0.0 has to be"),
        ({"theta": -1.0}, "theta=-1.0 has to be"),
        ({"theta": float("nan")}, "theta=nan has to be"),
        ({"num_layers": 0}, "num_layers=0: a stack"),
        ({"num_layers": -1, "scan_layers": True}, "num_layers=-1: a stack"),
    ],
)
def test_sizes_that_make_no_model(fields, said):
    with pytest.raises(GenaxError, match=said):
        jax.eval_shape(LLaMA(**SIZES | fields).init, jax.random.key(0), TOKENS)


def test_the_command_says_so():
    settings = ("--config.hidden_size=36", "--config.num_heads=4")
    said = call("params", "experiments/transformer/llama.py", *settings).refusal()
    assert "4 heads of 9 at width 36 are odd" in said
