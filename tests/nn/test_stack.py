"""Stacks of a block that is no Transformer's: plain and scanned, kept and computed again."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, tree
from genax.nn.stack import make_blocks, run_blocks, with_layers_of


class Layer(nn.Module):
    """Adds what it makes of x and of what all layers read; counts in its cache."""

    width: int

    @nn.compact
    def __call__(self, x, cache, context, train):
        y = jnp.tanh(nn.Dense(self.width)(x + context))
        return x + y, None if cache is None else cache + 1


class Stack(nn.Module):
    """Three layers."""

    scan_layers: bool
    remat: str = "none"

    def setup(self):
        self.blocks = make_blocks(Layer, 3, self.scan_layers, self.remat, width=4)

    def __call__(self, x, context, caches=None):
        return run_blocks(self.blocks, x, context, caches)


X, CONTEXT = jnp.arange(8.0).reshape(2, 1, 4) / 8, jnp.ones(4)


@pytest.fixture(scope="module")
def params():
    """Those of a plain stack, and of a scanned one."""
    plain = Stack(False).init(jax.random.key(0), X, CONTEXT)["params"]
    layers = [plain[f"blocks_{i}"] for i in range(3)]
    return plain, {"blocks": jax.tree.map(lambda *x: jnp.stack(x), *layers)}


@pytest.mark.parametrize("remat", ["none", "full"])
def test_scanned_layers_are_the_plain_ones(params, remat):
    def gradient(stack, params):
        return jax.jit(
            jax.grad(lambda x: (stack.apply({"params": params}, x, CONTEXT)[0] ** 2).sum())
        )

    expected = gradient(Stack(False), params[0])(X)
    for scan_layers in (False, True):
        found = gradient(Stack(scan_layers, remat), params[scan_layers])(X)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


class Scaled(Layer):
    """Also scales what it makes by a number of its own."""

    def __call__(self, x, cache, context, train, row):
        y, cache = super().__call__(x, cache, context, train)
        return x + row["scale"] * (y - x), cache


class ScaledStack(Stack):
    """Layers that read what is theirs alone."""

    def setup(self):
        self.blocks = make_blocks(Scaled, 3, self.scan_layers, self.remat, True, width=4)

    def __call__(self, x, scales):
        return run_blocks(self.blocks, x, CONTEXT, per_layer={"scale": scales})[0]


@pytest.mark.parametrize("remat", ["none", "full"])
def test_each_layer_reads_its_row(params, remat):
    ones, scales = jnp.ones(3), jnp.array([1.0, 0.5, 0.0])
    for scan_layers in (False, True):
        variables = {"params": params[scan_layers]}
        stack = ScaledStack(scan_layers, remat)
        plain = Stack(scan_layers).apply(variables, X, CONTEXT)[0]
        np.testing.assert_allclose(stack.apply(variables, X, ones), plain, rtol=1e-6)
        found = stack.apply(variables, X, scales)
        expected = ScaledStack(False, remat).apply({"params": params[0]}, X, scales)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert not np.allclose(found, stack.apply(variables, X, scales[::-1]))


def test_each_layer_has_a_cache(params):
    caches = (jnp.int32(0), jnp.int32(10), jnp.int32(20))
    written = Stack(False).apply({"params": params[0]}, X, CONTEXT, caches)[1]
    scanned = Stack(True).apply({"params": params[1]}, X, CONTEXT, jnp.stack(caches))[1]
    assert [int(x) for x in written] == scanned.tolist() == [1, 11, 21]


SINGLE = {
    "net/blocks_0/Dense_0/kernel": np.float32([[1, 2]]),
    "net/blocks_1/Dense_0/kernel": np.float32([[3, 4]]),
    "net/blocks_2/Dense_0/kernel": np.float32([[5, 6]]),
    "net/head/Dense_0/kernel": np.float32([[7]]),
}
STACKED = {
    "net/blocks/Dense_0/kernel": np.float32([[[1, 2]], [[3, 4]], [[5, 6]]]),
    "net/head/Dense_0/kernel": np.float32([[7]]),
}


@pytest.mark.parametrize("wanted", [SINGLE, STACKED])
@pytest.mark.parametrize("given", [SINGLE, STACKED])
def test_layers_are_stacked_and_single_as_wanted(given, wanted):
    assert tree.digest(with_layers_of(wanted, given)) == tree.digest(wanted)


def test_a_stack_needs_all_its_layers():
    given = {path: leaf for path, leaf in SINGLE.items() if "blocks_1" not in path}
    with pytest.raises(GenaxError, match=r"layers \[1\] of net/blocks/Dense_0/kernel are missing"):
        with_layers_of(STACKED, given)


def test_what_is_no_layer_stays_where_it_is():
    given = {"net/other_0/kernel": 1, "net/blocks/scale": np.float32(1)}
    assert with_layers_of({"net/blocks_0/scale"}, given) == given
