"""BatchNorm: over devices as on one, and against PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core.nets import BATCH_AXIS
from genax.nn.norms import BatchNorm
from tests.parity import require

SHAPE = (8, 3, 5, 4)


def images(seed=0):
    x = np.random.default_rng(seed).normal(2.0, 3.0, SHAPE)
    return jnp.asarray(x, jnp.float32)


@pytest.mark.parametrize("steps", [1, 3])
def test_agrees_with_torch(steps):
    [torch] = require("torch")
    reference = torch.nn.BatchNorm2d(SHAPE[-1])
    rng = np.random.default_rng(1)
    scale, bias = rng.normal(1, 0.5, (2, SHAPE[-1])).astype(np.float32)
    reference.weight.data, reference.bias.data = torch.from_numpy(scale), torch.from_numpy(bias)
    layer = BatchNorm()
    stats = layer.init(jax.random.key(0), images())["batch_stats"]
    params = {"scale": scale, "bias": bias}
    target = images(9)

    @jax.jit
    def gradients(params, stats, x):
        def loss(params, x):
            y, new = layer.apply(
                {"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"]
            )
            return (y * target).sum(), (y, new["batch_stats"])

        return jax.grad(loss, (0, 1), has_aux=True)(params, x)

    for step in range(steps):
        x = images(step)
        (grads, grad_x), (y, stats) = gradients(params, stats, x)
        inputs = torch.tensor(np.array(x.transpose(0, 3, 1, 2))).requires_grad_()
        outputs = reference(inputs)
        reference.zero_grad()
        (outputs * torch.tensor(np.array(target.transpose(0, 3, 1, 2)))).sum().backward()

        def close(ours, expected, tolerance):
            np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance)

        close(y, outputs.detach().numpy().transpose(0, 2, 3, 1), 1e-5)
        close(grad_x, inputs.grad.numpy().transpose(0, 2, 3, 1), 1e-5)
        close(grads["scale"], reference.weight.grad.numpy(), 1e-4)
        close(grads["bias"], reference.bias.grad.numpy(), 1e-4)
        close(stats["mean"], reference.running_mean.numpy(), 1e-5)
        close(stats["var"], reference.running_var.numpy(), 1e-5)

    reference.eval()
    expected = reference(torch.tensor(np.array(images(5).transpose(0, 3, 1, 2)))).detach().numpy()
    y = layer.apply({"params": params, "batch_stats": stats}, images(5))
    np.testing.assert_allclose(y, expected.transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


def test_statistics_are_float32_under_bfloat16():
    layer = BatchNorm()
    x = jnp.asarray(images() + 200, jnp.bfloat16)
    variables = layer.init(jax.random.key(0), x, train=True)
    y, new = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    assert new["batch_stats"]["var"].dtype == jnp.float32
    expected = 0.9 + 0.1 * np.asarray(x, np.float32).var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(new["batch_stats"]["var"], expected, rtol=1e-4)


def test_initialising_and_immutable_passes_leave_the_statistics():
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), images(), train=True)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.zeros(SHAPE[-1]))
    y = layer.apply(variables, images(), train=True)
    np.testing.assert_allclose(y.mean((0, 1, 2)), np.zeros(SHAPE[-1]), atol=1e-5)


def test_single_value_has_finite_statistics():
    layer = BatchNorm()
    x = jnp.ones((1, 2))
    variables = layer.init(jax.random.key(0), x)
    _, new = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(new))


def test_pmap_over_four_devices_is_the_global_batch():
    layer = BatchNorm()
    x, target = images(0), images(1)
    variables = layer.init(jax.random.key(0), x)
    params, stats = variables["params"], variables["batch_stats"]

    def gradients(params, x, target):
        def loss(params, x):
            y, new = layer.apply(
                {"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"]
            )
            return (y * target).sum(), (y, new["batch_stats"])

        return jax.grad(loss, (0, 1), has_aux=True)(params, x)

    def replica(params, x, target):
        (grads, grad_x), aux = gradients(params, x, target)
        return (jax.lax.psum(grads, BATCH_AXIS), grad_x), aux

    def split(a):
        return a.reshape(4, 2, *a.shape[1:])

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)

    (grads, grad_x), (y, new) = jax.jit(gradients)(params, x, target)
    parts = jax.pmap(
        replica, axis_name=BATCH_AXIS, in_axes=(None, 0, 0), devices=jax.devices()[:4]
    )(params, split(x), split(target))
    (part_grads, part_grad_x), (part_y, part_new) = parts
    assert len(part_y.sharding.device_set) == 4
    close(part_grad_x.reshape(x.shape), grad_x)
    close(part_y.reshape(x.shape), y)
    for device in range(4):
        own = jax.tree.map(lambda leaf, device=device: leaf[device], (part_grads, part_new))
        jax.tree.map(close, own, (grads, new))
