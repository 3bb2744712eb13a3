"""Plain networks around a real codebook, in place of convolutions and a Transformer.

Codes die within the steps that the contracts take, and are revived.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genax.vae.codebook import Codebook
from genax.vae.distributions import Gaussian
from tests.contracts.layers import MLP

GRID, CODE, CODES = (2, 2), 3, 12
IMAGE = (8, 8, 1)


class Autoencoder(nn.Module):
    """What losses of codes ask of a `VQVAE`."""

    dtype: Any = jnp.float32

    def setup(self):
        self.encoder = MLP((*GRID, CODE), dtype=self.dtype)
        self.codebook = Codebook(CODES, CODE, decay=0.5, dead_below=0.5)
        self.decoder = MLP(IMAGE, dtype=self.dtype)

    def vectors(self, image, train=False):
        return self.encoder(image)

    def likelihood_at(self, codes, train=False):
        mean = self.decoder(codes)
        return Gaussian(mean, jnp.full_like(mean, -1.0))

    def encode(self, image):
        return self.codebook(self.vectors(image)).index

    def decode(self, index):
        return self.likelihood_at(self.codebook.look_up(index))

    def __call__(self, image, train=False):
        return self.likelihood_at(self.codebook(self.vectors(image)).straight)


class Decoder(nn.Module):
    """Scores of the next value by the mean of those before it."""

    num_values: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens, train=False):
        given = jax.nn.one_hot(tokens, self.num_values + 10, dtype=self.dtype)
        means = given.cumsum(1) / jnp.arange(1, tokens.shape[1] + 1, dtype=self.dtype)[:, None]
        x = jnp.tanh(nn.Dense(8, dtype=self.dtype)(means))
        return nn.Dense(self.num_values, dtype=self.dtype)(x)


def autoencoder(dtype: Any) -> dict[str, nn.Module]:
    """The network of `vq_vae.py`."""
    return {"autoencoder": Autoencoder(dtype)}


def prior(dtype: Any) -> dict[str, nn.Module]:
    """The networks of `vq_prior.py`."""
    return {"autoencoder": Autoencoder(dtype), "decoder": Decoder(CODES, dtype)}


def pixels(dtype: Any) -> dict[str, nn.Module]:
    """The network of `pixel_gpt.py` with 3 levels and tokens of 2x2 pixels."""
    return {"decoder": Decoder(3**4, dtype)}
