"""NCSN's RefineNet: against PyTorch, its sizes, its first weights, and what it refuses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, tree
from genax.diffusion.refine_net import RefineNet, stretch
from tests.diffusion.refine_net_reference import Reference
from tests.parity import difference, require

TINY = RefineNet(4, num_levels=3)
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(3, 10, 8, 2)), jnp.float32)
LEVEL = jnp.array([0, 2, 1])


def shapes_of(network, x):
    return jax.eval_shape(lambda: network.init(jax.random.key(0), x, jnp.zeros(len(x), int)))


@pytest.mark.parametrize(
    ("channels", "shape", "count"),
    [(128, (1, 32, 32, 3), 30_117_635), (64, (1, 28, 28, 1), 7_638_657)],
)
def test_published_parameter_counts(channels, shape, count):
    variables = shapes_of(RefineNet(channels), jnp.zeros(shape))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == count


@pytest.mark.long
def test_agrees_with_pytorch():
    [torch] = require("torch")
    rng = np.random.default_rng(1)

    def draw(path, shape):
        scale = 0.3 if len(shape.shape) < 3 else np.prod(shape.shape[:-1]) ** -0.5
        one = path.endswith("scale")
        return (one + scale * rng.normal(size=shape.shape)).astype(np.float32)

    params = tree.map_by_path(draw, shapes_of(TINY, X)["params"])
    tensors = {path: torch.tensor(leaf) for path, leaf in tree.flatten(params).items()}
    for tensor in tensors.values():
        tensor.requires_grad_()
    theirs = Reference(torch, tensors, torch.tensor(LEVEL.tolist()))
    expected = theirs(torch.tensor(np.array(X)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    expected.square().mean().backward()

    def loss(params):
        output = TINY.apply({"params": params}, X, LEVEL)
        return jnp.square(output).mean(), output

    gradient, output = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert difference(output, expected) < 1e-5
    largest = max(float(tensor.grad.abs().max()) for tensor in tensors.values())
    for path, leaf in tree.flatten(gradient).items():
        assert difference(leaf, tensors[path].grad, floor=1e-2 * largest) < 1e-4, path


def test_linear_interpolation_keeps_the_corners():
    x = jnp.array([[0.0, 2.0], [4.0, 6.0]])[None, :, :, None]
    found = stretch(x, 3, 5)[0, :, :, 0]
    expected = np.add.outer([0.0, 2.0, 4.0], [0.0, 0.5, 1.0, 1.5, 2.0])
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.long
def test_levels_have_norms_of_their_own_and_weights_begin_as_published():
    variables = jax.jit(TINY.init)(jax.random.key(0), X, LEVEL)
    scales, biases = [], []
    for path, leaf in tree.flatten(variables["params"]).items():
        if path.endswith("scale"):
            scales.append(leaf.reshape(-1))
        elif path.endswith("bias"):
            biases.append(leaf.reshape(-1))
        else:
            bound = np.prod(leaf.shape[:-1]) ** -0.5
            assert 0.8 * bound < np.abs(leaf).max() <= bound, path
    assert np.concatenate(scales).mean() == pytest.approx(1, abs=2e-3)
    assert np.concatenate(scales).std() == pytest.approx(0.02, rel=0.1)
    assert not np.concatenate(biases).any()
    apply = jax.jit(lambda level: TINY.apply(variables, X, level))
    here = apply(LEVEL)
    assert here.shape == X.shape
    other = apply(jnp.array([0, 2, 0]))
    np.testing.assert_array_equal(other[:2], here[:2])
    assert not np.allclose(other[2], here[2], atol=1e-4)
    assert np.isnan(apply(jnp.array([-1, 3, 0]))[:2]).all()


@pytest.mark.parametrize(
    ("shape", "level", "message"),
    [
        ((3, 9, 8, 2), LEVEL, "even h and w"),
        ((3, 8, 8, 2), jnp.array([0, 3, 1]), "got level 3: levels are 0 to 2"),
        ((3, 8, 8, 2), jnp.array([0, -1, 1]), "got level -1: levels are 0 to 2"),
    ],
)
def test_refusals(shape, level, message):
    with pytest.raises(GenaxError, match=message):
        jax.eval_shape(lambda: TINY.init(jax.random.key(0), jnp.zeros(shape), level))


@pytest.mark.long
def test_dtype_is_of_the_computation_only():
    half = TINY.clone(dtype=jnp.bfloat16)
    variables = shapes_of(half, jnp.zeros(X.shape))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    apply = lambda variables: half.apply(variables, X, LEVEL)  # noqa: E731
    assert jax.eval_shape(apply, variables).dtype == jnp.float32
    factors = [
        factor.aval.dtype
        for equation in jax.make_jaxpr(apply)(variables).eqns
        if equation.primitive.name == "conv_general_dilated"
        for factor in equation.invars
    ]
    assert set(factors) <= {jnp.dtype("bfloat16")}
