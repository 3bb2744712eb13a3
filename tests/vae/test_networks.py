"""Networks of autoencoders: shapes, labels, and samples beside the batch."""

from __future__ import annotations

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.vae.autoencoders import MLPSize
from genax.vae.convolutional import ConvSize, smallest
from genax.vae.distributions import LOG_VARIANCES, posterior_of
from genax.vae.likelihoods import LEARNED_GAUSSIAN

SHAPE, BATCH, SAMPLES, LATENT = (8, 4, 3), 5, 2, 3
MLP = MLPSize(SHAPE, (6,), LATENT, nn.tanh, decoder_hidden=(4, 7), num_classes=4)
CONV = ConvSize(SHAPE, (4, 6), (5,), LATENT, nn.relu, LEARNED_GAUSSIAN, num_classes=4)


@pytest.fixture(scope="module", params=[MLP, CONV], ids=["mlp", "conv"])
def side(request):
    """Sizes, and a function from images, latents and labels to all that the networks return."""
    networks, rng = request.param.networks(), np.random.default_rng(0)
    image = jnp.asarray(rng.random((BATCH, *SHAPE)), jnp.float32)
    z = jnp.asarray(rng.normal(size=(BATCH, SAMPLES, LATENT)), jnp.float32)
    label = jnp.int32([0, 1, 2, 3, 0])

    def both(nets, image, z, label):
        return nets.encoder(image, label), nets.decoder(z, label), nets.decoder(z[:, 1], label)

    params = jax.jit(nn.init(both, networks))(jax.random.key(0), image, z, label)
    call = jax.jit(lambda *inputs: nn.apply(both, networks)(params, *inputs))
    return request.param, call, (image, z, label)


def test_shapes(side):
    _, call, inputs = side
    posterior, several, one = call(*inputs)
    assert posterior.mean.shape == posterior.log_variance.shape == (BATCH, LATENT)
    assert several.mean.shape == (BATCH, SAMPLES, *SHAPE)
    assert one.mean.shape == (BATCH, *SHAPE)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((posterior, several)))


def test_samples_do_not_see_each_other(side):
    _, call, inputs = side
    _, several, one = call(*inputs)
    for all_of_them, alone in zip(*map(jax.tree.leaves, (several, one)), strict=True):
        np.testing.assert_allclose(all_of_them[:, 1], alone, rtol=1e-5, atol=1e-6)


def test_a_label_changes_its_own_element_alone(side):
    _, call, (image, z, label) = side
    before = call(image, z, label)
    after = call(image, z, label.at[2].set(0))

    def of_elements(old, new):
        return np.abs(np.asarray(old - new)).reshape(BATCH, -1).max(1)

    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        changed = of_elements(old, new)
        assert changed[2] > 0
        np.testing.assert_array_equal(np.delete(changed, 2), 0)


def test_labels_that_networks_do_not_take():
    encoder = replace(MLP, num_classes=0).networks().encoder
    image = jnp.zeros((2, *SHAPE))
    with pytest.raises(GenaxError, match=r"MLPEncoder\(num_classes=None\) was called with a label"):
        encoder.init(jax.random.key(0), image, jnp.zeros(2, jnp.int32))
    with pytest.raises(GenaxError, match="called without a label"):
        MLP.networks().encoder.init(jax.random.key(0), image)


@pytest.mark.parametrize("shape", [(8, 6, 1), (6, 8, 1)])
def test_images_that_cannot_be_halved(shape):
    with pytest.raises(GenaxError, match="cannot be halved 2 times"):
        ConvSize(shape, (4, 4), (5,), 3).networks()
    assert smallest(shape, (9,)) == (shape[0] // 2, shape[1] // 2, 9)


def test_a_log_variance_is_bounded():
    found = posterior_of(jnp.zeros((1, 3)), jnp.float32([[-100.0, 0.5, 1e9]])).log_variance
    np.testing.assert_allclose(found[0], [LOG_VARIANCES[0], 0.5, LOG_VARIANCES[1]])
