"""Plain layers in place of the autoencoder of images, of its opponent, and of a given distance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from genax.nn.convolution import Conv
from genax.vae.distributions import Gaussian
from tests.contracts.layers import MLP
from tests.contracts.translators import Judge

LATENT, FEATURES = (2, 2, 2), (8, 8, 3)


class Autoencoder(nn.Module):
    """What the losses of `kl_autoencoder.py` ask of a `KLAutoencoder`."""

    dtype: Any = jnp.float32

    def setup(self):
        self.encoder = MLP((2, *LATENT), dtype=self.dtype)
        self.decoder = MLP(FEATURES, dtype=self.dtype)
        self.last = Conv(1, dtype=self.dtype)

    def encode(self, image, train=False):
        outputs = self.encoder(image)
        return Gaussian(outputs[:, 0], outputs[:, 1])

    def decode(self, z, train=False, with_features=False):
        features = jnp.tanh(self.decoder(z))
        image = self.last(features).astype(jnp.float32)
        return (image, features) if with_features else image


class Distance(nn.Module):
    """The squared distance of features."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, y, train=False):
        features = MLP((4,), dtype=self.dtype)
        return jnp.square(features(x) - features(y)).mean(-1)


def networks(dtype: Any) -> Mapping[str, nn.Module]:
    """Return the networks of `kl_autoencoder.py`."""
    return {
        "autoencoder": Autoencoder(dtype),
        "perceptual": Distance(dtype),
        "discriminator": Judge((2, 2), dtype=dtype),
    }
