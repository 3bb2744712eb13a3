"""Losses of pythae's models on copied weights and the same noise: values by image, and gradients.

pip install --no-deps pythae==0.1.2
"""

from __future__ import annotations

import importlib
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core.nets import per_example
from genax.vae.autoencoders import MLPSize
from genax.vae.factor_vae import (
    Draws,
    FactorNetworks,
    LatentDiscriminator,
    discriminator_loss,
    factor_loss,
    shuffle_dimensions,
)
from genax.vae.importance import iwae_loss
from genax.vae.likelihoods import likelihood_of
from genax.vae.objectives import elbo_loss
from genax.vae.total_correlation import beta_tc_loss, divergence_parts, tc_rows
from tests.parity import difference, require, require_pythae

models = require_pythae()
[torch] = require("torch")

SHAPE, BATCH, LATENT, SAMPLES, HIDDEN = (6, 5, 1), 7, 4, 3, 16
PIXELS = 30
# By the name that pythae has for them; its Gaussian leaves out the constant.
LIKELIHOODS = {"bce": ("bernoulli", 0.0), "mse": ("gaussian", 0.5 * PIXELS * np.log(2 * np.pi))}
each_likelihood = pytest.mark.parametrize(
    "theirs", ["bce", pytest.param("mse", marks=pytest.mark.long)]
)


class Side:
    """One of pythae's models, and what genax computes with its weights on the same noise."""

    def __init__(self, name, theirs, noise_shape=(1, LATENT), **settings):
        torch.manual_seed(0)
        config = getattr(models, f"{name}Config")(
            input_dim=(1, 6, 5), latent_dim=LATENT, reconstruction_loss=theirs, **settings
        )
        self.model = getattr(models, name)(config)
        if name == "FactorVAE":
            utils = importlib.import_module("pythae.models.factor_vae.factor_vae_utils")
            self.model.discriminator = utils.FactorVAEDiscriminator(LATENT, HIDDEN)
        likelihood, self.constant = LIKELIHOODS[theirs]
        size = MLPSize(SHAPE, (512,), LATENT, nn.relu, likelihood_of(likelihood))
        self.networks = size.networks()
        if name == "FactorVAE":
            discriminator = LatentDiscriminator((HIDDEN,) * 5)
            self.networks = FactorNetworks(
                self.networks.encoder, self.networks.decoder, discriminator
            )
        self.params = jax.tree.map(jnp.asarray, self.tree(lambda parameter: parameter))
        image = np.random.default_rng(0).random((BATCH, *SHAPE), np.float32)
        self.batch = {"image": jnp.asarray(image), "index": jnp.arange(BATCH)}
        self.x = torch.from_numpy(image).permute(0, 3, 1, 2)
        noise = self.call(
            lambda nets, batch: per_example(jax.random.normal, nets, batch, noise_shape),
            self.params,
        )
        self.noise = torch.from_numpy(np.array(noise))

    def tree(self, value):
        """Their parameters, or what `value` is of them, in Linen's order."""

        def dense(layer):
            weight, bias = value(layer.weight), value(layer.bias)
            return {"kernel": weight.detach().numpy().T, "bias": bias.detach().numpy()}

        encoder, decoder = self.model.encoder, self.model.decoder
        head = "logits" if self.constant == 0 else "mean"
        found = {
            "encoder": {
                "MLP_0": {
                    "hidden_0": dense(encoder.layers[0][0]),
                    "mean": dense(encoder.embedding),
                    "log_variance": dense(encoder.log_var),
                }
            },
            "decoder": {
                "MLP_0": {
                    "hidden_0": dense(decoder.layers[0][0]),
                    head: dense(decoder.layers[1][0]),
                }
            },
        }
        if hasattr(self.model, "discriminator"):
            layers = list(self.model.discriminator.layers)[::2]
            names = [*(f"hidden_{layer}" for layer in range(5)), "logits"]
            found["discriminator"] = {
                name: dense(layer) for name, layer in zip(names, layers, strict=True)
            }
        return found

    def call(self, function, params, batch=None):
        apply = nn.apply(function, self.networks)
        batch = self.batch if batch is None else batch
        return apply({"params": params}, batch, rngs={"example": jax.random.key(3)})

    def ours(self, loss):
        """The loss of every image, and the gradient of their mean."""

        def mean(params):
            found = self.call(loss, params)
            return found.values.mean(), found

        gradient, found = jax.jit(jax.grad(mean, has_aux=True))(self.params)
        return found, gradient

    def theirs(self, images, **settings):
        """What the model returns of some images, with the noise of these."""
        noise = self.noise[images]
        noise = noise if noise.shape[1] > 1 else noise[:, 0]
        self.model._sample_gauss = lambda mean, deviation: (mean + noise * deviation, noise)
        return self.model({"data": self.x[images]}, **settings)

    def one_by_one(self, name="loss"):
        """What the model returns of each image by itself."""
        each = [self.theirs(slice(number, number + 1)) for number in range(BATCH)]
        return torch.stack([one[name] for one in each])

    def agree(self, gradient, paths=("encoder", "decoder")):
        """The gradient is theirs, which is in their parameters."""
        expected = self.tree(
            lambda parameter: 0 * parameter if parameter.grad is None else parameter.grad
        )
        for path in paths:
            worst = jax.tree.map(difference, gradient[path], expected[path])
            assert max(jax.tree.leaves(worst)) < 1e-4, (path, worst)


def close(ours, theirs):
    theirs = theirs.detach().numpy() if hasattr(theirs, "detach") else theirs
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@each_likelihood
@pytest.mark.parametrize(("name", "beta"), [("VAE", 1.0), ("BetaVAE", 4.0)])
def test_elbo(name, beta, theirs):
    side = Side(name, theirs, **({} if beta == 1 else {"beta": beta}))
    found, gradient = side.ours(partial(elbo_loss, beta=beta))
    losses = side.one_by_one()
    close(found.values - side.constant, losses)
    close(found.aux["reconstruction"] - side.constant, side.one_by_one("recon_loss"))
    close(found.aux["kl"], side.one_by_one("reg_loss"))
    losses.mean().backward()
    side.agree(gradient)


@each_likelihood
def test_iwae(theirs):
    """Its loss is sum_i share_i log w_i with shares held fixed, whose gradient is that of ours."""
    side = Side("IWAE", theirs, (SAMPLES, LATENT), number_samples=SAMPLES)
    found, gradient = side.ours(partial(iwae_loss, samples=SAMPLES))
    # Their mean of all weights is ours: -log w = reconstruction + divergence.
    means = side.one_by_one("recon_loss") + side.one_by_one("reg_loss")
    close(found.aux["negative_elbo"] - side.constant, means)
    losses = side.one_by_one()
    losses.mean().backward()
    side.agree(gradient)
    # sum_i s_i log w_i = log mean_i w_i + log k + sum_i s_i log s_i, with the entropy of shares.
    entropy = losses.detach().numpy() + side.constant - np.asarray(found.values)
    assert (entropy > -np.log(SAMPLES) - 1e-4).all()
    assert (entropy < 1e-4).all()


@each_likelihood
@pytest.mark.parametrize("stratified", [False, True])
def test_beta_tc(theirs, stratified):
    weights = {"alpha": 0.7, "beta": 6.0, "gamma": 1.3}
    side, size = Side("BetaTCVAE", theirs, use_mss=stratified, **weights), 50
    official = side.model._log_importance_weight_matrix(BATCH, size).numpy()

    def loss(nets, batch):
        rows = tc_rows(nets, batch)
        found = beta_tc_loss(nets, batch, rows, size, 6.0, 0.7, 1.3)
        if not stratified:
            return found
        # The official weights are by column and not by the row's own example.
        parts = divergence_parts(rows, jnp.asarray(official))
        mixed = 0.7 * parts.mutual_information + 6.0 * parts.total_correlation
        return found.replace(values=rows.reconstruction + mixed + 1.3 * parts.dimension_wise)

    found, gradient = side.ours(loss)
    output = side.theirs(slice(None), dataset_size=size)
    close(found.values.mean() - side.constant, output.loss)
    close(found.aux["reconstruction"].mean() - side.constant, output.recon_loss)
    output.loss.backward()
    side.agree(gradient)


@each_likelihood
def test_factor_vae_of_the_autoencoder(theirs):
    side = Side("FactorVAE", theirs, gamma=35.0)
    found, gradient = side.ours(partial(factor_loss, gamma=35.0))
    values = [
        loss_of(side, slice(number, number + 1), torch.zeros(1, LATENT))[1]
        for number in range(BATCH)
    ]
    close(found.values - side.constant, torch.stack(values))
    torch.stack(values).mean().backward()
    side.agree(gradient)


def encoded(side, images):
    """Mean, log-variance and latent of FactorVAE for some images."""
    found = side.model.encoder(side.x[images])
    mean, log_variance = found.embedding, found.log_covariance
    return mean, log_variance, mean + torch.exp(0.5 * log_variance) * side.noise[images, 0]


def loss_of(side, images, shuffled):
    """Reconstruction, autoencoder's and discriminator's loss of FactorVAE, with given latents."""
    mean, log_variance, z = encoded(side, images)
    image = side.model.decoder(z)["reconstruction"]
    return side.model.loss_function(image, side.x[images], mean, log_variance, z, shuffled)


def test_factor_vae_of_the_discriminator():
    side = Side("FactorVAE", "bce")
    other = jnp.asarray(np.random.default_rng(1).normal(size=(BATCH, LATENT)), jnp.float32)
    shuffled = side.call(
        lambda nets, batch: shuffle_dimensions(nets.make_rng("example"), other), side.params
    )
    shuffled = torch.from_numpy(np.array(shuffled))
    latent = jnp.asarray(encoded(side, slice(None))[2].detach().numpy())
    found, gradient = side.ours(
        lambda nets, batch: discriminator_loss(nets, batch, Draws(latent, other))
    )
    places = [slice(number, number + 1) for number in range(BATCH)]
    losses = torch.stack([loss_of(side, one, shuffled[one])[2] for one in places])
    close(found.values, losses)
    losses.mean().backward()
    side.agree(gradient, ("discriminator",))
