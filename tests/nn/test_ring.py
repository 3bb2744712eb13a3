"""Attention round a ring of devices gives what attention on one device gives."""

import contextlib
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.core.mesh import make_mesh
from genax.nn.attention import attend
from genax.nn.rematerialise import POLICIES, rematerialise
from genax.nn.ring import ring_attention
from genax.running.flops import count_flops

LENGTH = 24
PADDING = {
    "none": None,
    "right": np.arange(LENGTH) < np.array([[24], [13], [5], [1]]),
    # Causal queries before the first real token have no key at all.
    "left": np.arange(LENGTH) >= np.array([[0], [11], [19], [23]]),
}


def draw(seed, heads, length=LENGTH, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(4, length, heads, 8)), dtype)


def on_mesh(mesh, function, *args):
    """Compiled over the first devices, as a step is."""
    mesh = make_mesh(mesh, jax.devices()[: 1 if mesh == "data=1" else 4])

    @jax.jit
    def run(*args):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args)

    args = jax.device_put(args, jax.NamedSharding(mesh, jax.P()))
    return run(*args), run.lower(*args)


def with_gradients(function, weights):
    def total(*args):
        y = function(*args)
        return (y.astype(jnp.float32) * weights).sum(), y

    return jax.value_and_grad(total, (0, 1, 2), has_aux=True)


def compare(mesh, heads, key_heads, padding="none", dtype=jnp.float32, tolerance=1e-5, **options):
    args = [draw(i, n, dtype=dtype) for i, n in enumerate((heads, key_heads, key_heads))]
    weights, mask = draw(3, heads), PADDING[padding]
    if mask is not None:
        # What padding attends to has no meaning.
        weights = weights * mask[:, :, None, None]
        mask = jnp.asarray(mask)[:, None]
    ours = with_gradients(partial(ring_attention, mask=mask, **options), weights)
    theirs = with_gradients(partial(attend, mask=mask, attention="xla", **options), weights)
    ((_, found), slopes), lowered = on_mesh(mesh, ours, *args)
    (_, expected), expected_slopes = jax.jit(theirs)(*args)
    assert found.dtype == expected.dtype
    kept = np.abs(weights).max(-1, keepdims=True) > 0
    pairs = [(found * kept, expected * kept), *zip(slopes, expected_slopes, strict=True)]
    for one, other in pairs:
        one, other = (np.asarray(x, np.float32) for x in (one, other))
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    return lowered.compile().as_text()


@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("causal", [False, True])
def test_values_and_gradients(causal, padding):
    text = compare("sequence=4", 4, 2, padding, causal=causal)
    assert "collective-permute" in text
    assert "all-gather" not in text


@pytest.mark.parametrize(
    ("mesh", "heads", "key_heads"),
    [
        ("data=1", 3, 1),
        ("data=2,sequence=2", 3, 3),
        ("fsdp=2,sequence=2", 6, 2),
        ("sequence=2,tensor=2", 4, 2),
        ("sequence=2,tensor=2", 6, 3),
        ("sequence=2,tensor=2", 3, 1),
        ("tensor=4", 12, 2),
    ],
)
def test_meshes_and_heads(mesh, heads, key_heads):
    compare(mesh, heads, key_heads, "left", causal=True)


@pytest.mark.parametrize("window", [1, 2, 6, 7, 8, 12, 13, 40])
def test_keys_travel_as_far_as_the_window(window):
    compare("sequence=4", 2, 1, causal=True, window=window)


def test_a_window_over_one_block_sends_nothing():
    args = [draw(i, 2) for i in range(3)]
    function = partial(ring_attention, causal=True, window=1)
    assert "collective-permute" not in on_mesh("sequence=4", function, *args)[1].compile().as_text()


def test_chunks_of_queries(monkeypatch):
    """Chunks that do not divide a device's queries."""
    monkeypatch.setattr("genax.nn.ring.CHUNK", 5)
    compare("sequence=2,data=2", 4, 2, "right", causal=True, window=9)
    compare("sequence=2,data=2", 4, 2, "left", scale=0.3)


def test_bfloat16():
    compare("sequence=4", 4, 2, "right", dtype=jnp.bfloat16, tolerance=0.05, causal=True)


def test_more_keys_than_queries():
    query, key, value = draw(0, 2, 8), draw(1, 2), draw(2, 2)
    found, _ = on_mesh("sequence=4", ring_attention, query, key, value)
    expected = attend(query, key, value, attention="xla")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_queries_without_a_key_get_nothing():
    args = [draw(i, 2) for i in range(3)]
    mask = jnp.zeros((4, 1, LENGTH), bool).at[0].set(True)
    function = with_gradients(partial(ring_attention, mask=mask, causal=True), draw(3, 2))
    ((_, y), slopes), _ = on_mesh("sequence=4", function, *args)
    for x in (y, *slopes):
        assert jnp.isfinite(x).all()
        assert jnp.abs(x[0]).max() > 0
        np.testing.assert_array_equal(x[1:], 0)


@pytest.mark.long
def test_memory_grows_with_the_length_alone():
    """No scores of a device's queries with all of its keys are kept, nor masks for all layers."""

    def layer(x, _):
        return jax.checkpoint(partial(ring_attention, causal=True))(x, x, x), None

    def temporaries(length):
        slope = jax.grad(lambda x: jax.lax.scan(layer, x, length=2)[0].sum())
        _, lowered = on_mesh("sequence=4", slope, jnp.zeros((1, length, 2, 8)))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert temporaries(4096) < 2.2 * temporaries(2048)


def test_auto_takes_it_where_tokens_are_split():
    args = [draw(i, 2) for i in range(3)]
    odd = [x[:, :23] for x in args]
    full = jnp.ones((4, LENGTH, LENGTH), bool)

    def sent(mesh, args, **options):
        run = partial(attend, causal=True, **options)
        found, lowered = on_mesh(mesh, run, *args)
        np.testing.assert_allclose(found, attend(*args, causal=True), rtol=1e-5, atol=1e-5)
        return "collective_permute" in lowered.as_text()

    assert sent("sequence=4", args)
    assert sent("sequence=4", args, mask=full[:, :1])
    assert not sent("sequence=4", odd)
    assert not sent("sequence=4", args, mask=full)
    assert not sent("data=4", args)


def test_what_it_does_not_cover_is_refused():
    query = draw(0, 2)
    with pytest.raises(GenaxError, match="padding only"):
        attend(query, query, query, bias=jnp.zeros((1, 2, 24, 24)), attention="ring")
    with pytest.raises(GenaxError, match="23 queries and 23 keys over 4 device"):
        on_mesh("sequence=4", ring_attention, *[query[:, :23]] * 3)
    with pytest.raises(GenaxError, match="causal ones must be as many"):
        attend(query[:, :8], query, query, causal=True, attention="ring")


@pytest.mark.parametrize("mesh", [None, "sequence=4"])
def test_policies_of_products_run_it_forward_once(mesh):
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, query, key, value):
            return ring_attention(query, key, value, causal=True)

    def flops(policy):
        layer = rematerialise(Layer, policy)()
        places: contextlib.AbstractContextManager = contextlib.nullcontext()
        if mesh is not None:
            devices = make_mesh(mesh, jax.devices()[:4])
            places = jax.sharding.use_abstract_mesh(devices.abstract_mesh)
        with places:
            args = [draw(i, 2) for i in range(3)]
            return count_flops(jax.grad(lambda args: jnp.sin(layer.apply({}, *args)).sum()), args)

    policies = [name for name in POLICIES if "dots" in name]
    assert {flops(policy) for policy in policies} == {flops("none")}
    assert flops("none") < flops("full")
