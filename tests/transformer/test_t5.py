"""T5's relative positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.transformer.t5 import T5, relative_buckets

TOKENS = jnp.zeros((1, 2), jnp.int32)
SIZES = {"vocab_size": 5, "context": 8, "hidden_size": 8, "num_layers": 1, "num_heads": 2}


@pytest.mark.parametrize("causal", [False, True])
def test_the_fewest_buckets(causal):
    distances = jnp.arange(-5, 6)
    found = np.asarray(relative_buckets(distances, 2 if causal else 4, 2, causal))
    behind, ahead = (found[:5], found[6:])
    assert found[5] == 0
    assert (behind == 1).all()
    assert (ahead == (0 if causal else 3)).all()


@pytest.mark.parametrize(
    ("num_buckets", "max_distance", "said"),
    [
        (32, 16, "max_distance above 16"),
        (32, 8, "max_distance=8"),
        (32, -1, "max_distance=-1"),
        (3, 8, "at least 2 buckets"),
        (0, 8, "at least 2 buckets"),
        (-8, 8, "at least 2 buckets"),
    ],
)
def test_buckets_without_a_logarithm(num_buckets, max_distance, said):
    net = T5(**SIZES, num_buckets=num_buckets, max_distance=max_distance)

    def run(net):
        return net(TOKENS, memory=net.encode(TOKENS))

    with pytest.raises(GenaxError, match=said):
        jax.eval_shape(lambda: net.init(jax.random.key(0), method=run))
