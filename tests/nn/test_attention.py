"""Attention and the layers beside it, against plain mathematics."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.nn.attention import Attention, attend
from genax.nn.causal_attention import causal_attention
from genax.nn.gelu import gelu_tanh
from genax.nn.kv_cache import BlockCache, KVCache
from genax.nn.layer_norm import layer_norm
from genax.nn.projection import project


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(0, 1, shape), jnp.float32)


def assert_same_with_gradients(ours, theirs, *args, tolerance=1e-5):
    def run(function):
        result, pullback = jax.vjp(function, *args)
        return result, pullback(normal(9, *result.shape))

    found, expected = (jax.jit(lambda f=f: run(f))() for f in (ours, theirs))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        found,
        expected,
    )


@pytest.mark.parametrize("length", [1, 5, 128, 300])
def test_causal_blocks(length):
    args = [normal(i, 2, length, 3, 8) for i in range(3)]
    plain = lambda q, k, v: attend(q, k, v, causal=True, attention="xla")  # noqa: E731
    assert_same_with_gradients(causal_attention, plain, *args)


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_grouped_heads_and_masks(kv_heads):
    query, key, value = normal(0, 2, 5, 6, 8), *(normal(i, 2, 7, kv_heads, 8) for i in (1, 2))
    mask = (
        jnp.asarray(np.random.default_rng(0).integers(0, 2, (2, 5, 7)), bool).at[..., 0].set(True)
    )
    ours = lambda q, k, v: attend(q, k, v, mask)  # noqa: E731
    theirs = lambda q, k, v: jax.nn.dot_product_attention(q, k, v, mask=mask[:, None])  # noqa: E731
    assert_same_with_gradients(ours, theirs, query, key, value)


def test_bfloat16_has_a_float32_softmax():
    args = [normal(i, 2, 200, 2, 16).astype(jnp.bfloat16) for i in range(3)]
    wide = jax.jit(causal_attention)(*(x.astype(jnp.float32) for x in args))
    for attention in ("xla", "blocks"):
        run = partial(attend, causal=True, attention=attention)
        narrow = jax.jit(run)(*args)
        assert narrow.dtype == jnp.bfloat16
        assert jnp.abs(narrow - wide).max() < 0.03


def test_cross_attention_reads_the_memory():
    x, memory = normal(0, 2, 5, 12), normal(1, 2, 7, 10)
    layer = Attention(3, num_kv_heads=1, cross=True)
    (y, _), variables = layer.init_with_output(jax.random.key(0), x, memory)
    assert y.shape == x.shape
    assert variables["params"]["key_value"]["kernel"].shape == (10, 2, 1, 4)
    mask = (jnp.arange(7) < 4)[None, None] & jnp.ones((2, 1, 1), bool)
    other = layer.apply(variables, x, memory.at[:, 4:].set(7.0), mask)[0]
    np.testing.assert_array_equal(layer.apply(variables, x, memory, mask)[0], other)


def test_layer_norm():
    args = normal(0, 3, 4, 10) * 3 + 1, normal(1, 10), normal(2, 10)

    def plain(x, scale, bias):
        return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(
            x.var(-1, keepdims=True) + 1e-5
        ) * scale + bias

    assert_same_with_gradients(lambda *a: layer_norm(*a, 1e-5), plain, *args)
    assert_same_with_gradients(
        lambda x, s: layer_norm(x, s, None, 1e-5), lambda x, s: plain(x, s, 0.0), *args[:2]
    )


def test_gelu():
    x = jnp.linspace(-12, 12, 1001)
    assert_same_with_gradients(gelu_tanh, lambda x: jax.nn.gelu(x, approximate=True), x)
    assert jnp.isfinite(jax.grad(lambda x: gelu_tanh(x).sum())(jnp.array([-1e4, 1e4]))).all()


@pytest.mark.parametrize("shape", [((6,), (4, 2)), ((3, 4), (2,)), ((2,), (9,))])
def test_project(shape):
    ins, outs = shape
    x, kernel = normal(0, 2, 3, *ins), normal(1, *ins, *outs)
    assert_same_with_gradients(
        lambda x, kernel: project(x, kernel, len(ins)),
        lambda x, kernel: jnp.tensordot(x, kernel, len(ins)),
        x,
        kernel,
    )


def test_refusals():
    x = normal(0, 1, 4, 2, 8)
    with pytest.raises(GenaxError, match="'fast' is unknown; choose one of auto"):
        attend(x, x, x, attention="fast")
    with pytest.raises(GenaxError, match="without mask"):
        attend(x, x, x, mask=jnp.ones((1, 1, 4), bool), causal=True, attention="blocks")
    with pytest.raises(GenaxError, match="window=2 counts earlier positions"):
        attend(x, x, x, window=2)
    with pytest.raises(GenaxError, match='"cudnn" has no dropout'):
        attend(x, x, x, dropout=0.1, attention="cudnn")
    with pytest.raises(GenaxError, match="needs a memory"):
        Attention(2, cross=True).init(jax.random.key(0), x[:, :, 0])


@pytest.mark.parametrize("window", [1, 3, 20])
def test_sliding_window(window):
    query, key, value = (normal(i, 2, 9, heads, 8) for i, heads in enumerate((4, 2, 2)))
    ours = lambda q, k, v: attend(q, k, v, causal=True, window=window)  # noqa: E731
    theirs = partial(
        jax.nn.dot_product_attention, is_causal=True, local_window_size=(window - 1, 0)
    )
    assert_same_with_gradients(ours, theirs, query, key, value)


@pytest.mark.parametrize("cross", [True, False])
def test_a_window_is_never_ignored(cross):
    x = normal(0, 1, 4, 8)
    memory = x if cross else None
    with pytest.raises(GenaxError, match="causal self-attention"):
        Attention(2, cross=cross, window=2).init(jax.random.key(0), x, memory)
    with pytest.raises(GenaxError, match="window=0 must be at least 1"):
        Attention(2, causal=True, window=0).init(jax.random.key(0), x)


@pytest.mark.long
def test_a_window_over_a_cache_counts_real_tokens():
    module, x = Attention(2, causal=True, window=3), normal(0, 1, 7, 8)
    variables = module.init(jax.random.key(0), x)
    expected, _ = module.apply(variables, x)
    # Two tokens of padding stand between the first three and the rest.
    padded = jnp.concatenate([x[:, :3], normal(1, 1, 2, 8), x[:, 3:]], axis=1)
    real = (jnp.arange(9) < 3) | (jnp.arange(9) > 4)
    cache, found = KVCache.empty(1, 1, 9, 2, 4), []
    for first, last in ((0, 5), (5, 6), (6, 9)):
        cache, allowed = cache.admit(real[None, first:last])
        y, own = module.apply(
            variables, padded[:, first:last], mask=allowed, cache=cache.layers[0].own, start=first
        )
        cache = replace(cache, layers=(BlockCache(own),))
        found.append(y)
    found = jnp.concatenate(found, axis=1)[:, real]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_bias_and_scale():
    query, key, value, bias = *(normal(i, 2, 5, 4, 8) for i in range(3)), normal(3, 1, 4, 5, 5)
    ours = lambda q, k, v, b: attend(q, k, v, bias=b, scale=0.3)  # noqa: E731
    theirs = lambda q, k, v, b: jax.nn.dot_product_attention(q, k, v, b, scale=0.3)  # noqa: E731
    assert_same_with_gradients(ours, theirs, query, key, value, bias)


def test_a_dropout_of_1_has_no_gradient():
    x = normal(0, 1, 4, 2, 8)
    run = jax.jit(jax.grad(lambda x: attend(x, x, x, dropout=1.0, rng=jax.random.key(0)).sum()))
    np.testing.assert_array_equal(run(x), jnp.zeros_like(x))
