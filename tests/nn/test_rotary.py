"""Rotary positions by halves and by a product give the same bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.nn import rotary
from genax.nn.rematerialise import POLICIES
from genax.nn.rotary import LongContext, rotary_frequencies, rotate, rotation


def draw(head_dim, dtype, length=40, examples=1):
    """Queries, and rotations by positions that differ between examples or are shared."""
    rng = np.random.default_rng(head_dim)
    x = jnp.asarray(rng.normal(size=(2, length, 3, head_dim)), dtype)
    positions = jnp.asarray(rng.integers(0, 9_000, (examples, length)))
    return x, rotation(positions, rotary_frequencies(head_dim))


def on(platform):
    """A mesh that programs are traced for, of devices that are not here."""
    device = jax.sharding.AbstractDevice("a chip", 1, platform)
    mesh = jax.sharding.AbstractMesh((1,), ("data",), abstract_device=device)
    return jax.sharding.use_abstract_mesh(mesh)


@pytest.mark.long
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize(
    ("head_dim", "length", "examples"), [(2, 40, 1), (6, 40, 2), (64, 1, 2), (128, 40, 2)]
)
def test_a_product_gives_the_bits_of_halves(head_dim, length, examples, dtype):
    """Values and gradients, also of the rotation.

    One operation at a time, as a compiler may round a product and a sum once instead of twice.
    """
    x, by = draw(head_dim, dtype, length, examples)
    expected, pull_halves = jax.vjp(rotary._by_halves, x, by)
    found, pull_product = jax.vjp(rotary._by_product, x, by)
    gradient = jnp.flip(expected, axis=-1)
    for ours, theirs in zip(
        jax.tree.leaves((found, pull_product(gradient))),
        jax.tree.leaves((expected, pull_halves(gradient))),
        strict=True,
    ):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_pairs_are_turned_by_angles():
    x, (cos, sin) = draw(8, jnp.float32)
    first, second = np.split(np.asarray(x), 2, axis=-1)
    turned = (first + 1j * second) * (cos + 1j * sin)[:, :, None]
    expected = np.concatenate((turned.real, turned.imag), axis=-1)
    for form in (rotate, rotary._by_product):
        np.testing.assert_allclose(form(x, (cos, sin)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("platform", "products"), [("cpu", 0), ("gpu", 0), ("tpu", 1)])
def test_the_form_is_that_of_the_devices_traced_for(platform, products):
    with on(platform):
        program = jax.jit(rotate).trace(*draw(64, jnp.float32)).lower().as_text()
    assert program.count("dot_general") == products
    # At less precision a TPU rounds float32 to bfloat16.
    assert program.count("precision = [HIGHEST, HIGHEST]") == products


@pytest.mark.parametrize("policy", [name for name in POLICIES if "dots" in name])
def test_policies_of_products_do_not_keep_the_turned_halves(policy):
    x, by = draw(64, jnp.bfloat16)
    saved = getattr(jax.checkpoint_policies, policy)

    def kept(form):
        layer = jax.checkpoint(lambda x: jnp.sin(form(jnp.sin(x), by)), policy=saved)
        _, pull = jax.vjp(layer, x)
        return sum(leaf.shape == x.shape for leaf in jax.tree.leaves(pull))

    bare = rotary._by_product.fun  # without its own gradient
    assert kept(rotary._by_product) == kept(rotary._by_halves) == 1 < kept(bare)


def test_a_scan_keeps_no_queries_for_the_gradient_of_the_rotation():
    x, by = draw(64, jnp.float32)
    layers = 50

    def temporaries(form):
        def loss(kernels):
            def layer(x, kernel):
                return form(jnp.sin(x @ kernel), by), None

            return jax.lax.scan(layer, x, kernels)[0].sum()

        lowered = jax.jit(jax.grad(loss)).lower(jnp.zeros((layers, 64, 64)))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert temporaries(rotary._by_product) < temporaries(rotary._by_halves) + 2 * x.nbytes


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"factor": 0.0}, "LongContext: factor=0.0 must be above 0"),
        ({"low_factor": 4.0}, "low_factor=4.0 must be below high_factor=4.0"),
        ({"original_context": 0}, "original_context=0 must be a whole number at least 1"),
    ],
)
def test_a_stretching_that_is_none(wrong, said):
    with pytest.raises(GenaxError, match=said):
        LongContext(**wrong)
