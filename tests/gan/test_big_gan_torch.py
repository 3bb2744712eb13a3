"""BigGAN against PyTorch by copied weights: outputs, gradients, statistics and singular vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import tree
from genax.gan.big_gan import BigGANDiscriminator, BigGANGenerator
from tests.gan import big_gan_torch as reference
from tests.parity import require

[torch] = require("torch")
CLASSES, LABELS, SIZE, WIDTH = 5, 6, 16, 8
MULTIPLIERS = (4, 2, 1)
SHARED = {"width": WIDTH, "multipliers": MULTIPLIERS, "attention_at": 8, "num_classes": CLASSES}
LABEL = jnp.array([0, 3, 4, 3])


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def shaken(module, seed=0):
    """The module with random parameters, of which none is 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module.train()


def compare(network, module, x, theirs, *, labels, atol=1e-5):
    """Two passes in training mode with their gradients, then one with the running statistics."""
    variables = tree.nest(jax.tree.map(jnp.asarray, reference.copied(module)))
    params = variables.pop("params")
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, LABEL)
    assert jax.tree.map(jnp.shape, {**variables, "params": params}) == jax.tree.map(
        jnp.shape, dict(shapes)
    )
    moved = tuple(variables)

    @jax.jit
    def passed(params, variables):
        def loss(params):
            y, new = network.apply(
                {"params": params, **variables}, x, LABEL, train=True, mutable=moved
            )
            weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
            return (y * weights).sum(), (y, new)

        return jax.grad(loss, has_aux=True)(params)

    def channels_last(tensor):
        found = tensor.detach().numpy()
        return found.transpose(0, 2, 3, 1) if found.ndim == 4 else found

    for _ in range(2):
        gradient, (ours, variables) = passed(params, variables)
        y = module(theirs, labels)
        expected = channels_last(y)
        np.testing.assert_allclose(ours, expected, 1e-5, atol)
        weights = np.cos(np.arange(expected.size, dtype=np.float32)).reshape(expected.shape)
        weights = weights.transpose(0, 3, 1, 2) if weights.ndim == 4 else weights
        module.zero_grad()
        (y * torch.tensor(weights.copy())).sum().backward()
        gradients = reference.gradients(module)
        largest = max(np.abs(leaf).max() for leaf in gradients.values())
        for path, leaf in tree.flatten(gradient).items():
            np.testing.assert_allclose(
                leaf, gradients.pop(path), 1e-4, 1e-4 * largest, err_msg=path
            )
        assert not gradients
        expected = reference.copied(module)
        for path, leaf in tree.flatten(variables).items():
            np.testing.assert_allclose(leaf, expected[path], 1e-4, 1e-5, err_msg=path)

    module.eval()
    ours = jax.jit(network.apply)({"params": params, **variables}, x, LABEL)
    np.testing.assert_allclose(ours, channels_last(module(theirs, labels)), 1e-5, atol)


def test_generator():
    part, widths = 3, [WIDTH * multiplier for multiplier in MULTIPLIERS]
    module = shaken(reference.Generator(widths, part, LABELS, CLASSES, 0, 3))
    network = BigGANGenerator(SIZE, 3, latent_size=3 * part, label_size=LABELS, **SHARED)
    z = random(4, 3 * part)
    compare(network, module, z, torch.tensor(np.array(z)), labels=torch.tensor(np.array(LABEL)))


@pytest.mark.parametrize("deep", [pytest.param(False, marks=pytest.mark.long), True])
def test_discriminator(deep):
    widths = [WIDTH * multiplier for multiplier in reversed(MULTIPLIERS)]
    module = shaken(reference.Discriminator(widths, CLASSES, 3, deep))
    network = BigGANDiscriminator(deep=deep, **SHARED)
    x = random(4, SIZE, SIZE, 3)
    theirs = torch.tensor(np.array(x).transpose(0, 3, 1, 2))
    compare(network, module, x, theirs, labels=torch.tensor(np.array(LABEL)))
