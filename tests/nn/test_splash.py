"""JAX's TPU kernel, interpreted, gives what attention gives."""

import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from genax.core import GenaxError
from genax.core.mesh import make_mesh
from genax.nn.attention import attend
from genax.nn.rematerialise import OFFLOAD, POLICIES, rematerialise
from genax.nn.splash import splash_attention
from genax.running.flops import kernel_flops
from genax.transformer.llama import LLaMA

RNG = np.random.default_rng(0)
LENGTHS = np.array([[256], [130]])


def draw(heads, length=256):
    return jnp.asarray(RNG.normal(size=(2, length, heads, 32)), jnp.float32)


@pytest.mark.parametrize(
    ("key_heads", "causal", "window", "padded"),
    [(2, True, None, False), (1, True, None, True), (2, False, None, True), (2, True, 40, False)],
)
def test_values_and_gradients(key_heads, causal, window, padded):
    query, key, value, weights = draw(2), draw(key_heads), draw(key_heads), draw(2)
    mask = None
    if padded:
        mask = jnp.asarray(np.arange(256) < LENGTHS)[:, None]

    def run(function, **more):
        def attended(*args):
            output = function(*args, mask, causal, window=window, **more)
            return output if mask is None else output * mask[:, 0, :, None, None]

        output, pull = jax.vjp(jax.jit(attended), query, key, value)
        return output, *pull(weights)

    expected = run(attend, attention="xla")
    found = run(splash_attention, interpret=True)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=5e-6)


def test_queries_of_another_sequence_do_not_share_the_padding_of_the_keys():
    """Cross-attention whose lengths happen to be equal, one memory being padding alone."""
    query, key, value = draw(2), draw(2), draw(2)
    mask = jnp.asarray(np.arange(256) < LENGTHS)[:, None]
    expected = attend(query, key, value, mask, attention="xla")
    found = splash_attention(query, key, value, mask, interpret=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=5e-6)
    empty = splash_attention(query, key, value, jnp.zeros_like(mask), interpret=True)
    assert jnp.isfinite(empty).all()


def test_each_device_works_on_its_part():
    mesh = make_mesh("data=2,tensor=2", jax.devices()[:4])
    place = NamedSharding(mesh, PartitionSpec("data", None, "tensor"))
    arrays = [jax.device_put(draw(2, 128), place) for _ in range(3)]

    @jax.jit
    def run(*args):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return splash_attention(*args, causal=True, interpret=True)

    found = run(*arrays)
    assert found.sharding.spec == place.spec
    whole = (jnp.asarray(jax.device_get(array)) for array in arrays)
    expected = attend(*whole, causal=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mesh", [None, pytest.param("data=2,tensor=2", marks=pytest.mark.long)])
def test_policies_of_products_run_it_forward_once(mesh):
    places: contextlib.AbstractContextManager = contextlib.nullcontext()
    if mesh is not None:
        devices = make_mesh(mesh, jax.devices()[:4])
        places = jax.sharding.use_abstract_mesh(devices.abstract_mesh)
    tokens = jnp.zeros((2, 128), jnp.int32)

    def flops(remat, change=jax.grad):
        decoder = LLaMA(50, 128, 32, 3, 2, scan_layers=True, remat=remat, attention="splash")
        params = jax.eval_shape(decoder.init, jax.random.key(0), tokens)
        run = change(lambda params: decoder.apply(params, tokens).sum())
        return kernel_flops(jax.make_jaxpr(run)(params).jaxpr)

    with places:
        forward, both = flops("none", change=lambda run: run), flops("none")
        assert 0 < forward < both
        for remat in (*POLICIES, OFFLOAD, "full"):
            again = remat in ("nothing_saveable", OFFLOAD, "full")
            assert flops(remat) == both + forward * again, remat


def test_what_is_kept_changes_no_gradient():
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, query, key, value):
            return splash_attention(query, key, value, causal=True, interpret=True)

    args, weights = [draw(1, 128) for _ in range(3)], draw(1, 128)

    def gradients(policy):
        layer = rematerialise(Layer, policy)()
        return jax.jit(jax.grad(lambda args: (layer.apply({}, *args) * weights).sum()))(args)

    for ours, theirs in zip(gradients("dots_saveable"), gradients("none"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_it_does_not_cover_is_refused():
    query = draw(2)
    with pytest.raises(GenaxError, match="multiples of 128"):
        splash_attention(query[:, :100], query, query)
    with pytest.raises(GenaxError, match="masks padding only"):
        attend(query, query, query, bias=jnp.zeros((1, 2, 256, 256)), attention="splash")
