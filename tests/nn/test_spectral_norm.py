"""Spectral norm: PyTorch's numbers, the top singular value, and when its vectors move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.nn.spectral_norm import COLLECTION, SpectralConv, SpectralDense, SpectralEmbed
from tests.parity import require

EPSILON = 1e-6


def arrays(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def cases():
    """Layer, input, kernel's name, PyTorch's layer, and our axes of its weight."""
    [torch] = require("torch")
    labels = jnp.array([0, 4, 2, 2])
    return {
        "conv": (
            SpectralConv(5, epsilon=EPSILON),
            arrays(2, 6, 6, 3),
            "kernel",
            torch.nn.Conv2d(3, 5, 3, padding=1),
            (2, 3, 1, 0),
        ),
        "conv_1x1": (
            SpectralConv(5, (1, 1), epsilon=EPSILON),
            arrays(2, 4, 6, 3),
            "kernel",
            torch.nn.Conv2d(3, 5, 1),
            (2, 3, 1, 0),
        ),
        "dense": (
            SpectralDense(7, epsilon=EPSILON),
            arrays(4, 3),
            "kernel",
            torch.nn.Linear(3, 7),
            (1, 0),
        ),
        "embed": (
            SpectralEmbed(6, 4, epsilon=EPSILON),
            labels,
            "embedding",
            torch.nn.Embedding(6, 4),
            (0, 1),
        ),
    }


def to_torch(torch, x):
    x = np.array(x)
    if x.dtype == np.int32:
        return torch.tensor(x).long()
    return torch.tensor(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x)


def inputs_of(vector, shape):
    """PyTorch's vector of inputs [c, h, w] in the order of our kernels, [h, w, c]."""
    if len(shape) != 4:
        return vector
    height, width, channels, _ = shape
    return vector.reshape(channels, height, width).transpose(1, 2, 0).reshape(-1)


@pytest.mark.parametrize("name", ["conv", "conv_1x1", "dense", "embed"])
@pytest.mark.parametrize("steps", [1, 3])
def test_agrees_with_torch(name, steps):
    """Output, gradient and vectors of passes in training mode, then an output without."""
    [torch] = require("torch")
    layer, x, kernel, reference, axes = cases()[name]
    reference = torch.nn.utils.spectral_norm(reference, eps=EPSILON)
    weight = reference.weight_orig.detach().numpy().transpose(axes)
    params = {kernel: weight}
    if name != "embed":
        bias = arrays(weight.shape[-1], seed=3)
        reference.bias.data = torch.tensor(np.array(bias))
        params["bias"] = bias
    vectors = {
        "u": reference.weight_u.numpy().copy(),
        "v": inputs_of(reference.weight_v.numpy().copy(), weight.shape),
    }

    @jax.jit
    def passed(params, vectors, target):
        def loss(params):
            y, moved = layer.apply(
                {"params": params, COLLECTION: vectors}, x, train=True, mutable=[COLLECTION]
            )
            return (y * target).sum(), (y, moved[COLLECTION])

        return jax.grad(loss, has_aux=True)(params)

    for _ in range(steps):
        y = reference(to_torch(torch, x))
        shape = np.moveaxis(y.detach().numpy(), 1, -1).shape
        target = arrays(*shape, seed=5)
        reference.zero_grad()
        (y * torch.tensor(np.moveaxis(np.array(target), -1, 1).copy())).sum().backward()
        gradient, (ours, vectors) = passed(params, vectors, target)
        np.testing.assert_allclose(ours, np.moveaxis(y.detach().numpy(), 1, -1), 1e-5, 1e-5)
        expected = reference.weight_orig.grad.numpy().transpose(axes)
        np.testing.assert_allclose(gradient[kernel], expected, 1e-4, 1e-4)
        np.testing.assert_allclose(vectors["u"], reference.weight_u.numpy(), 1e-5, 1e-5)
        expected = inputs_of(reference.weight_v.numpy(), weight.shape)
        np.testing.assert_allclose(vectors["v"], expected, 1e-5, 1e-5)

    reference.eval()
    expected = np.moveaxis(reference(to_torch(torch, x)).detach().numpy(), 1, -1)
    ours = jax.jit(layer.apply)({"params": params, COLLECTION: vectors}, x)
    np.testing.assert_allclose(ours, expected, 1e-5, 1e-5)


def test_converges_to_the_top_singular_value():
    layer, x = SpectralDense(7), arrays(3, 5)
    kernel = arrays(5, 7, seed=2)
    variables = layer.init(jax.random.key(0), x)
    params = {"kernel": kernel, "bias": variables["params"]["bias"]}
    moves = jax.jit(
        lambda vectors: layer.apply(
            {"params": params, COLLECTION: vectors}, x, train=True, mutable=[COLLECTION]
        )
    )
    vectors = variables[COLLECTION]
    for _ in range(200):
        _, moved = moves(vectors)
        vectors = moved[COLLECTION]
    largest = np.linalg.svd(kernel, compute_uv=False)[0]
    y = layer.apply({"params": params, COLLECTION: vectors}, x)
    np.testing.assert_allclose(y, x @ kernel / largest, 1e-4, 1e-5)


def test_vectors_move_in_training_passes_alone():
    layer, x = SpectralConv(4), arrays(2, 4, 4, 3)
    kernel = {"params": {"kernel": arrays(3, 3, 3, 4, seed=1), "bias": np.zeros(4, np.float32)}}
    first = layer.init(jax.random.key(0), x, train=True)[COLLECTION]
    again = layer.init(jax.random.key(0), x)[COLLECTION]
    jax.tree.map(np.testing.assert_array_equal, first, again)
    variables = kernel | {COLLECTION: first}
    _, resting = layer.apply(variables, x, mutable=[COLLECTION])
    jax.tree.map(np.testing.assert_array_equal, first, resting[COLLECTION])
    y, moved = layer.apply(variables, x, train=True, mutable=[COLLECTION])
    assert all((moved[COLLECTION][name] != first[name]).any() for name in ("u", "v"))
    # A pass that keeps nothing, such as a penalty's, sees the same kernel.
    np.testing.assert_array_equal(y, layer.apply(variables, x, train=True))


def test_upsampling_is_a_convolution_of_repeated_pixels():
    x = arrays(2, 3, 4, 3)
    plain, up = SpectralConv(5), SpectralConv(5, upsample=True)
    variables = up.init(jax.random.key(0), x)
    repeated = x.repeat(2, 1).repeat(2, 2)
    np.testing.assert_allclose(up.apply(variables, x), plain.apply(variables, repeated), 1e-5, 1e-5)


@pytest.mark.parametrize("label", [-1, 6])
def test_a_label_without_a_row_is_nan(label):
    layer = SpectralEmbed(6, 4)
    labels = jnp.array([1, label])
    y = layer.apply(layer.init(jax.random.key(0), labels), labels)
    assert jnp.isfinite(y[0]).all()
    assert jnp.isnan(y[1]).all()


def test_averaged_vectors_give_the_same_kernel():
    """An average of unit vectors is shorter, which must not make the kernel larger."""
    layer, x = SpectralDense(7), arrays(3, 5)
    variables = layer.init(jax.random.key(0), x)
    shorter = {**variables, COLLECTION: jax.tree.map(lambda v: 0.5 * v, variables[COLLECTION])}
    np.testing.assert_allclose(layer.apply(shorter, x), layer.apply(variables, x), 1e-6, 1e-6)


def test_bfloat16_computes_over_float32_parameters():
    layer = SpectralConv(4, dtype=jnp.bfloat16)
    y, variables = layer.init_with_output(jax.random.key(0), arrays(2, 4, 4, 3))
    assert y.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
