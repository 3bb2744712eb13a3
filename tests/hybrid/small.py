"""A small VAE-GAN of linear layers, those of pythae's own networks."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genax.hybrid.vae_gan import Judged, Networks
from genax.vae.distributions import Gaussian

IMAGE, LATENT, BATCH = (2, 3, 1), 4, 5
UNITS, JUDGES = 512, 256


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, image, train=False):
        x = nn.relu(nn.Dense(UNITS, name="hidden")(image.reshape(len(image), -1)))
        return Gaussian(*(nn.Dense(LATENT, name=name)(x) for name in ("mean", "log_variance")))


class Decoder(nn.Module):
    latent_size: int = LATENT

    @nn.compact
    def __call__(self, z, train=False):
        x = nn.relu(nn.Dense(UNITS, name="hidden")(z))
        return nn.sigmoid(nn.Dense(int(np.prod(IMAGE)), name="image")(x)).reshape(-1, *IMAGE)


class Discriminator(nn.Module):
    @nn.compact
    def __call__(self, image, train=False):
        x = nn.relu(nn.Dense(JUDGES, name="hidden")(image.reshape(len(image), -1)))
        return Judged(nn.Dense(1, name="score")(x)[:, 0], x)


NETWORKS = Networks(Encoder(), Decoder(), Discriminator())
ELEMENT = {"image": jax.ShapeDtypeStruct(IMAGE, jnp.float32)}
BATCH_OF = {
    "image": jnp.asarray(np.random.default_rng(0).random((BATCH, *IMAGE)), jnp.float32),
    "index": jnp.arange(BATCH),
}
