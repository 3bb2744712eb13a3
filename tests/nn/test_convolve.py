"""`convolve` against the convolution and the gradients that JAX derives."""

from functools import partial

import jax
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from genax.core.mesh import BATCH, make_mesh
from genax.nn.convolve import DIMENSIONS, convolve
from genax.running.dispatch import scans_well

CASES = [
    ((7, 8), (3, 3), (1, 1), "SAME", (1, 1)),
    ((7, 8), (3, 3), (1, 1), "SAME", (2, 4)),
    ((9, 8), (2, 3), (2, 1), ((2, 1), (0, 3)), (3, 2)),
    ((8, 9), (3, 3), (2, 2), ((0, 1), (0, 1)), (1, 1)),
    ((9, 10), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    ((8, 8), (4, 4), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    ((7, 5), (1, 1), (1, 1), "VALID", (1, 1)),
    ((7, 8), (2, 2), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((5, 6), (3, 2), (1, 1), ((4, 2), (1, 3)), (1, 2)),
    ((10, 11), (5, 4), (3, 2), ((2, 1), (0, 2)), (1, 1)),
    ((8, 7), (3, 3), (2, 2), "SAME", (1, 1)),
]


@pytest.mark.long
@pytest.mark.parametrize(("size", "taps", "strides", "padding", "dilation"), CASES)
def test_value_and_gradients(size, taps, strides, padding, dilation):
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (3, *size, 5))
    kernel = jax.random.normal(keys[1], (*taps, 5, 6))

    def reference(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=DIMENSIONS
        )

    def gradients(function):
        return jax.grad(lambda *args: (function(*args) ** 3).sum(), (0, 1))(x, kernel)

    ours = lambda x, kernel: convolve(x, kernel, strides, padding, dilation)  # noqa: E731
    np.testing.assert_allclose(ours(x, kernel), reference(x, kernel), rtol=1e-6, atol=1e-5)
    for mine, derived in zip(gradients(ours), gradients(reference), strict=True):
        np.testing.assert_allclose(mine, derived, rtol=1e-5, atol=1e-5 * np.abs(derived).max())


@pytest.mark.parametrize(
    ("strides", "padding", "dilation"),
    [
        ((1, 1), "SAME", (1, 1)),
        ((1, 1), ((2, 2), (2, 1)), (1, 1)),
        ((2, 2), ((1, 1), (0, 1)), (1, 1)),
        ((2, 3), ((2, 1), (1, 1)), (2, 1)),
    ],
)
def test_gradient_of_a_gradient(strides, padding, dilation):
    """It is right, and a convolution in the order of NHWC throughout, as a loop on a CPU needs."""
    x = jax.random.normal(jax.random.key(0), (2, 7, 8, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 4))

    def reference(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=DIMENSIONS
        )

    def penalty(convolution):
        def squared_norm(x, kernel):
            return (jax.grad(lambda x: (convolution(x, kernel) ** 3).sum())(x) ** 2).sum()

        return jax.grad(squared_norm, (0, 1))

    ours = penalty(partial(convolve, strides=strides, padding=padding, dilation=dilation))
    for mine, derived in zip(ours(x, kernel), penalty(reference)(x, kernel), strict=True):
        np.testing.assert_allclose(mine, derived, rtol=1e-4, atol=1e-5 * np.abs(derived).max())
    # A window that is read backwards has no fast code on a CPU.
    assert "rhs_reversal" not in jax.jit(ours).lower(x, kernel).compile().as_text()
    assert scans_well([jax.make_jaxpr(ours)(x, kernel).jaxpr])
    assert not scans_well([jax.make_jaxpr(penalty(reference))(x, kernel).jaxpr])


@pytest.mark.parametrize(("examples", "split"), [(8, (BATCH,)), (3, (None, None, None, "fsdp"))])
def test_examples_are_split_over_a_mesh(examples, split):
    """If the mesh does not divide the examples, XLA splits the result as the kernel is split."""
    mesh = make_mesh("data=2,fsdp=2", jax.devices()[:4])

    def shape(*sizes, axes=()):
        place = NamedSharding(mesh, PartitionSpec(*axes))
        return jax.ShapeDtypeStruct(sizes, np.float32, sharding=place)

    kernel = shape(3, 3, 3, 2, axes=(None, None, None, "fsdp"))
    with jax.set_mesh(mesh):
        program = jax.jit(convolve).lower(shape(examples, 4, 4, 3), kernel).compile()
    expected = NamedSharding(mesh, PartitionSpec(*split))
    assert program.output_shardings.is_equivalent_to(expected, 4)
