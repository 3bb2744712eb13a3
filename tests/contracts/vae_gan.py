"""Plain layers in place of VAE-GAN's three networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from genax.hybrid.vae_gan import Judged
from genax.vae.distributions import Gaussian
from tests.contracts.layers import MLP

IMAGE = (8, 8, 1)
LATENT = 3


class Encoder(MLP):
    """Layers from images to a normal distribution of latents."""

    def __call__(self, image, train=False):
        outputs = super().__call__(image)
        return Gaussian(outputs[:, 0], outputs[:, 1])


class Decoder(MLP):
    """Layers from latents to images."""

    latent_size: int = LATENT

    def __call__(self, z, train=False):
        return jnp.tanh(super().__call__(z))


class Discriminator(nn.Module):
    """Logits, and the hidden layer whose features measure a reconstruction."""

    dtype: Any

    @nn.compact
    def __call__(self, image, train=False):
        features = jnp.tanh(MLP((8,), dtype=self.dtype)(image))
        return Judged(MLP((1,), (), self.dtype)(features)[:, 0], features)


def networks(dtype: Any) -> Mapping[str, nn.Module]:
    """Return the networks of `vae_gan.py`."""
    return {
        "encoder": Encoder((2, LATENT), dtype=dtype),
        "decoder": Decoder(IMAGE, dtype=dtype),
        "discriminator": Discriminator(dtype),
    }
