"""VAE-GAN against pythae: each image's losses, their gradients, and who waits."""

import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core.nets import per_example
from genax.hybrid.equilibrium import gate
from genax.hybrid.vae_gan_losses import (
    decoder_loss,
    discriminator_loss,
    discriminator_rows,
    encoder_loss,
)
from tests.hybrid.small import BATCH, BATCH_OF, IMAGE, LATENT, NETWORKS
from tests.parity import check_installed, difference, require

SCALE = 0.3  # of the adversarial loss in the decoder's
# Layers of pythae's networks by those of ours.
LAYERS = {
    "encoder": {
        "hidden": "encoder.layers.0.0",
        "mean": "encoder.embedding",
        "log_variance": "encoder.log_var",
    },
    "decoder": {"hidden": "decoder.layers.0.0", "image": "decoder.layers.1.0"},
    "discriminator": {"hidden": "discriminator.layers.0.0", "score": "discriminator.layers.1.0"},
}


@pytest.fixture(scope="module")
def theirs():
    [torch] = require("torch")
    check_installed("pythae", how="--no-deps pythae==0.1.2")
    pythae = importlib.import_module("pythae.models")
    torch.manual_seed(0)
    config = pythae.VAEGANConfig(
        input_dim=(1, *IMAGE[:2]),
        latent_dim=LATENT,
        adversarial_loss_scale=SCALE,
        reconstruction_layer=1,
    )
    return pythae.VAEGAN(config).train()


def params_of(model, value, networks=tuple(LAYERS)):
    """The model's parameters, or their gradients, as ours."""

    def dense(name):
        layer = model.get_submodule(name)
        weight, bias = (value(p).detach().numpy() for p in (layer.weight, layer.bias))
        return {"kernel": jnp.asarray(weight.T), "bias": jnp.asarray(bias)}

    return {top: {o: dense(t) for o, t in LAYERS[top].items()} for top in networks}


def call(function, params):
    apply = nn.apply(lambda nets: function(nets, BATCH_OF), NETWORKS)
    return apply({"params": params}, rngs={"example": jax.random.key(3)})


def draws(nets, batch):
    """The noise of a loss's first call, and of its second."""
    return [per_example(jax.random.normal, nets, batch, (LATENT,)) for _ in range(2)]


def decoder(nets, batch):
    return decoder_loss(nets, batch, weight=1 - SCALE, fakes=("prior",))


def discriminator(nets, batch):
    rows = discriminator_rows(nets, batch, fakes=("prior",))
    return discriminator_loss(nets, batch, rows)


LOSSES = {"encoder": encoder_loss, "decoder": decoder, "discriminator": discriminator}


@pytest.fixture(scope="module")
def ours(theirs):
    """Noise, and by network the loss's values, metrics and gradient of its mean."""

    @jax.jit
    def measure(params):
        found = {}
        for name, loss in LOSSES.items():

            def total(params, loss=loss):
                found = call(loss, params)
                return found.values.mean(), found

            found[name] = jax.grad(total, has_aux=True)(params)
        return call(draws, params), found

    return measure(params_of(theirs, lambda parameter: parameter))


@jax.jit
def judged(params):
    """The discriminator's losses."""
    return call(discriminator, params).aux


def losses_of(model, rows, noise, prior):
    """What pythae's loss returns for some of the images, with this noise."""
    [torch] = require("torch")
    x = torch.tensor(np.asarray(BATCH_OF["image"]).transpose(0, 3, 1, 2))[rows]
    found = model.encoder(x)
    mean, log_variance = found.embedding, found.log_covariance
    noise, prior = (torch.tensor(np.asarray(array))[rows] for array in (noise, prior))
    z = mean + torch.exp(0.5 * log_variance) * noise
    images = model.decoder(z).reconstruction
    return model.loss_function(images, x, z, prior, mean, log_variance)


def prior_of(name, noise):
    """The discriminator's phase draws the prior first; the decoder's, after a posterior."""
    return noise[0] if name == "discriminator" else noise[1]


@pytest.mark.parametrize(("name", "place"), [("encoder", 1), ("decoder", 2), ("discriminator", 3)])
def test_losses_of_each_image(name, place, ours, theirs):
    noise, found = ours
    loss = found[name][1]
    singles = [
        losses_of(theirs, slice(row, row + 1), noise[0], prior_of(name, noise))
        for row in range(BATCH)
    ]
    expected = np.array([single[place].item() for single in singles])
    if name == "decoder":
        # pythae also takes away the loss of real images, which the decoder has no part in.
        expected += SCALE * np.asarray(found["discriminator"][1].aux["real"])
    np.testing.assert_allclose(loss.values, expected, rtol=1e-5)
    if name == "encoder":
        errors = np.array([single[0].item() for single in singles])
        np.testing.assert_allclose(loss.aux["error"], errors, rtol=1e-5)


@pytest.mark.parametrize(("name", "place"), [("encoder", 1), ("decoder", 2), ("discriminator", 3)])
def test_gradients(name, place, ours, theirs):
    noise, found = ours
    theirs.zero_grad()
    everything = slice(None)
    losses_of(theirs, everything, noise[0], prior_of(name, noise))[place].backward()
    gradient = params_of(theirs, lambda parameter: parameter.grad, (name,))[name]
    for layer, parts in gradient.items():
        for part, expected in parts.items():
            got = found[name][0][name][layer][part]
            assert difference(got, expected) < 1e-4, (layer, part)


@pytest.mark.parametrize("bias", [-4.0, -1.0, 0.0, 1.0, 4.0])
def test_who_waits(bias, ours, theirs):
    """A discriminator may be surer of everything, or of nothing."""
    [torch] = require("torch")
    noise, _ = ours
    last = theirs.discriminator.layers[1][0].bias
    with torch.no_grad():
        before = last.clone()
        last.copy_(before + bias)
        found = losses_of(theirs, slice(None), noise[1], noise[0])
        aux = judged(params_of(theirs, lambda parameter: parameter))
        last.copy_(before)
    means = (aux[name].mean() for name in ("real", "fake"))
    moves = gate(*means, theirs.equilibrium, theirs.margin)
    assert (bool(moves.decoder), bool(moves.discriminator)) == found[5:7]
    assert found[5] or found[6]
