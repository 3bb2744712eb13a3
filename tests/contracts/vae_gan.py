"""VAE-GAN's shape (Larsen et al. 2016): three minimisers, one encoder, decoder, discriminator."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from genax.core import Loss, Phase, Stage, Task, per_example
from tests.contracts.layers import MLP

IMAGE = (4, 4, 1)
LATENT = 3
ELEMENT = {"image": jax.ShapeDtypeStruct(IMAGE, jnp.float32)}


class Discriminator(nn.Module):
    """Logits, and the hidden layer whose features measure a reconstruction."""

    dtype: Any

    @nn.compact
    def __call__(self, image):
        features = jnp.tanh(MLP((8,), dtype=self.dtype)(image))
        return MLP((1,), (), self.dtype)(features)[:, 0], features


class Networks(nn.Module):
    encoder: nn.Module
    decoder: nn.Module
    discriminator: nn.Module


def play(nets, batch):
    """KL, feature-wise reconstruction error (eq. 8) and the logits of all three kinds of image."""
    mean, log_variance = jnp.moveaxis(nets.encoder(batch["image"]), 1, 0)
    noise = per_example(jax.random.normal, nets, batch, (LATENT,))
    prior = per_example(jax.random.normal, nets, batch, (LATENT,))
    kl = 0.5 * (mean**2 + jnp.exp(log_variance) - 1 - log_variance).sum(-1)
    rebuilt = nets.decoder(mean + jnp.exp(0.5 * log_variance) * noise)
    real, features = nets.discriminator(batch["image"])
    fake, rebuilt_features = nets.discriminator(rebuilt)
    generated, _ = nets.discriminator(nets.decoder(prior))
    error = 0.5 * jnp.square(features - rebuilt_features).sum(-1)
    return kl, error, (real, fake, generated)


def encoder_loss(nets, batch):
    kl, error, _ = play(nets, batch)
    return Loss(kl + error, aux={"kl": kl, "error": error})


def decoder_loss(nets, batch):
    _, error, (_, fake, generated) = play(nets, batch)
    return Loss(0.1 * error + jax.nn.softplus(-fake) + jax.nn.softplus(-generated))


def discriminator_loss(nets, batch):
    _, _, (real, fake, generated) = play(nets, batch)
    values = jax.nn.softplus(-real) + jax.nn.softplus(fake) + jax.nn.softplus(generated)
    return Loss(values, aux={"real": lax.stop_gradient(real)})


def make(dtype: Any = jnp.float32) -> Task:
    networks = Networks(
        encoder=MLP((2, LATENT), dtype=dtype),
        decoder=MLP(IMAGE, dtype=dtype),
        discriminator=Discriminator(dtype),
    )
    phases = [
        Phase("encoder", encoder_loss, ("encoder",), optax.adam(1e-3)),
        Phase("decoder", decoder_loss, ("decoder",), optax.adam(1e-3)),
        Phase("discriminator", discriminator_loss, ("discriminator",), optax.adam(1e-3)),
    ]
    return Task(networks, [Stage(phases)])
