"""Documents packed into one sequence are as if each were alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.transformer.gpt import GPT
from genax.transformer.llama import LLaMA
from genax.transformer.networks import Networks
from genax.transformer.packing import packed_mask, packed_positions
from genax.transformer.tasks.losses import next_token_loss

SEGMENTS = jnp.array([[1, 1, 1, 2, 2, 3, 0, 0], [4, 4, 4, 4, 4, 4, 4, 4]])
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 19, (2, 8)))
DECODERS = {
    "gpt": GPT(19, 8, 24, 2, 3, init_scale=0.5),
    "llama": LLaMA(19, 8, 24, 2, 6, num_kv_heads=2, init_scale=0.5, scan_layers=True),
}
each_decoder = pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)


def test_positions_and_mask():
    expected = [[0, 1, 2, 0, 1, 0, 0, 1], [0, 1, 2, 3, 4, 5, 6, 7]]
    np.testing.assert_array_equal(packed_positions(SEGMENTS), expected)
    assert packed_mask(SEGMENTS)[0, 4].tolist() == [False] * 3 + [True] * 2 + [False] * 3


@pytest.mark.long
@each_decoder
def test_packed_documents_are_as_if_alone(decoder):
    variables = jax.jit(decoder.init)(jax.random.key(0), TOKENS)
    read = jax.jit(decoder.apply)
    packed = read(variables, TOKENS, segments=SEGMENTS)
    for row, start, end in ((0, 0, 3), (0, 3, 5), (0, 5, 6), (1, 0, 8)):
        alone = read(variables, TOKENS[row : row + 1, start:end])
        np.testing.assert_allclose(packed[row, start:end], alone[0], rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_a_token_is_predicted_from_its_own_document():
    """No gradient flows from one document into another, and no target is another's first token."""
    networks = Networks(DECODERS["llama"])
    batch = {"tokens": TOKENS, "segments": SEGMENTS}

    def loss(networks, batch):
        return next_token_loss(networks, batch, train=False)

    variables = jax.jit(lambda: networks.init(jax.random.key(0), method=loss, batch=batch))()
    found = jax.jit(lambda v: networks.apply(v, method=loss, batch=batch))(variables)
    np.testing.assert_array_equal(found.weights, [[1, 1, 0, 1, 0, 0, 0], [1] * 7])

    @jax.jit
    def gradient(embedding):
        params = variables["params"]["decoder"]
        changed = {**params, "token_embedding": {"embedding": embedding}}
        alone = {"params": {"decoder": changed}}
        lost = networks.apply(alone, method=loss, batch=batch)
        return lost.values[0, 3] * lost.weights[0, 3]

    table = variables["params"]["decoder"]["token_embedding"]["embedding"]
    moved = set(np.flatnonzero(np.abs(jax.grad(gradient)(table)).sum(1)).tolist())
    assert moved == {int(TOKENS[0, 3])}
