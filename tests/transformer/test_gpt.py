"""GPT: causality, sizes, scanned and rematerialised layers, precision, dropout."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, tree
from genax.nn.placement import PARTITION_RULES
from genax.nn.rematerialise import OFFLOAD
from genax.running.flops import count_flops
from genax.transformer.gpt import GPT
from tests.transformer.gpt2_reference import stack_blocks

SIZES = {
    "vocab_size": 31,
    "context": 12,
    "hidden_size": 24,
    "num_layers": 3,
    "num_heads": 3,
}
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 31, (2, 12)))


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(GPT(**SIZES).init, jax.random.key(0), TOKENS)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: jnp.asarray(0.2 * rng.standard_normal(s.shape), s.dtype), shapes)


def loss_of(decoder, params, **kwargs):
    return jnp.square(decoder.apply({"params": params}, TOKENS, **kwargs)).mean()


def test_no_gradient_from_later_tokens(params):
    """The logits at a position depend on its token and those before it, and on nothing later."""
    decoder = GPT(**SIZES)

    def logits(embedding):
        changed = {**params, "token_embedding": {"embedding": embedding}}
        hidden = decoder.apply({"params": changed}, jnp.arange(12)[None], method="hidden")
        return jnp.abs(hidden[0]).sum(-1)

    jacobian = jax.jit(jax.jacrev(logits))(params["token_embedding"]["embedding"])[:, :12]
    influence = np.asarray(jnp.abs(jacobian).sum(-1))
    assert (influence[np.triu_indices(12, 1)] == 0).all()
    assert (influence[np.tril_indices(12)] > 0).all()


def test_padding_is_not_seen(params):
    decoder = GPT(**SIZES)
    mask = jnp.arange(12)[None] >= jnp.array([[0], [4]])
    other = jnp.where(mask, TOKENS, 7)
    apply = jax.jit(decoder.apply)
    logits = [apply({"params": params}, tokens, mask) for tokens in (TOKENS, other)]
    np.testing.assert_array_equal(logits[0][1, 4:], logits[1][1, 4:])
    alone = apply({"params": params}, TOKENS[1:, 4:])
    np.testing.assert_allclose(logits[0][1, 4:], alone[0], rtol=1e-5, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("remat", ["none", "full", "dots_with_no_batch_dims_saveable", OFFLOAD])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_scan_and_remat_change_nothing(params, scan_layers, remat):
    arrange = stack_blocks if scan_layers else lambda params: params
    plain = jax.jit(jax.value_and_grad(lambda p: loss_of(GPT(**SIZES), p)))(params)
    other = GPT(**SIZES, scan_layers=scan_layers, remat=remat)
    loss, gradients = jax.jit(jax.value_and_grad(lambda p: loss_of(other, p)))(arrange(params))
    np.testing.assert_allclose(loss, plain[0], rtol=1e-6)
    expected = arrange(plain[1])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), gradients, expected
    )


def test_policies_differ_in_what_is_computed_again(params):
    """Those of products keep what projections give; the scores are computed again."""
    flops = {
        remat: count_flops(jax.grad(lambda p, n=remat: loss_of(GPT(**SIZES, remat=n), p)), params)
        for remat in ("none", "dots_saveable", "dots_with_no_batch_dims_saveable", OFFLOAD, "full")
    }
    assert flops["none"] == flops["dots_saveable"]
    assert flops["none"] < flops["dots_with_no_batch_dims_saveable"] == flops[OFFLOAD]
    assert flops[OFFLOAD] < flops["full"]


def test_an_unknown_policy_is_refused():
    with pytest.raises(GenaxError, match="remat='dots' is unknown; choose none, full or one of"):
        GPT(**SIZES, remat="dots").init(jax.random.key(0), TOKENS)


def test_bfloat16_compute_over_float32_parameters(params):
    decoder = GPT(**SIZES, dtype=jnp.bfloat16)
    logits = jax.jit(decoder.apply)({"params": params}, TOKENS)
    assert logits.dtype == jnp.bfloat16
    wide = jax.jit(GPT(**SIZES).apply)({"params": params}, TOKENS)
    assert jnp.abs(logits - wide).max() < 0.05 * jnp.abs(wide).max()
    gradients = jax.jit(jax.grad(lambda p: loss_of(decoder, p)))(params)
    for leaf in jax.tree.leaves(gradients):
        assert leaf.dtype == jnp.float32
        assert jnp.isfinite(leaf).all()


@pytest.mark.parametrize("scan_layers", [False, True])
def test_dropout_draws_from_its_stream(params, scan_layers):
    decoder = GPT(**SIZES, dropout=0.5, scan_layers=scan_layers)
    params = stack_blocks(params) if scan_layers else params
    run = jax.jit(lambda key: loss_of(decoder, params, train=True, rngs={"dropout": key}))
    first, again, other = run(jax.random.key(0)), run(jax.random.key(0)), run(jax.random.key(1))
    assert first == again
    assert first != other
    plain = GPT(**SIZES, scan_layers=scan_layers)
    losses = [jax.jit(lambda d=d: loss_of(d, params))() for d in (decoder, plain)]
    assert losses[0] == losses[1] != first


def test_residual_layers_start_smaller():
    shapes = {**SIZES, "hidden_size": 96}
    init = jax.jit(GPT(**shapes).init)
    params = init(jax.random.key(0), TOKENS)["params"]["blocks_0"]
    for layer, std in [("expand", 0.02), ("output", 0.02 / math.sqrt(6))]:
        assert params["feed_forward"][layer]["kernel"].std() == pytest.approx(std, rel=0.05)
    assert params["attention"]["output"]["kernel"].std() == pytest.approx(0.02 / 6**0.5, rel=0.05)
    assert params["attention"]["qkv"]["kernel"].std() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_partition_rules_name_every_matrix(params, scan_layers):
    params = stack_blocks(params) if scan_layers else params
    for path, leaf in tree.flatten({"decoder": params}).items():
        rules = [
            axes
            for pattern, axes in PARTITION_RULES
            if tree.matches(pattern, path) and len(axes) == leaf.ndim
        ]
        named = path.endswith(("kernel", "embedding", "qkv/bias", "expand/bias"))
        assert len(rules) == named, path


def test_too_many_tokens():
    with pytest.raises(GenaxError, match="13 tokens exceed the context of 12"):
        GPT(**SIZES).init(jax.random.key(0), jnp.zeros((1, 13), jnp.int32))


def test_heads_that_do_not_divide():
    with pytest.raises(GenaxError, match="5 heads"):
        GPT(**{**SIZES, "num_heads": 5}).init(jax.random.key(0), TOKENS)
