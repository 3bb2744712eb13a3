"""One block of BigGAN-deep a network, in place of the many that take minutes to compile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from genax.gan.big_gan_layers import DeepDiscriminatorBlock, DeepGeneratorBlock, SelfAttention
from genax.nn.labels import embed_labels
from genax.nn.spectral_norm import SpectralDense, SpectralEmbed

CLASSES, WIDTH = 10, 8


class Generator(nn.Module):
    """Images of a latent and a class, which both reach the norms of the block."""

    dtype: Any = jnp.float32
    latent_size: int = 4
    num_classes: int = CLASSES

    @nn.compact
    def __call__(self, z, label=None, train=False):
        condition = jnp.concatenate([z, embed_labels(self, label, 4)], axis=-1).astype(self.dtype)
        x = nn.Dense(16 * WIDTH, dtype=self.dtype)(condition).reshape(-1, 4, 4, WIDTH)
        x = DeepGeneratorBlock(WIDTH // 2, up=True, dtype=self.dtype)(x, condition, train)
        return jnp.tanh(nn.Dense(1, dtype=self.dtype)(x).astype(jnp.float32))


class Discriminator(nn.Module):
    """Scores of images and their classes."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, label=None, train=False):
        x = nn.Dense(WIDTH // 2, dtype=self.dtype)(x.astype(self.dtype))
        x = DeepDiscriminatorBlock(WIDTH, down=True, dtype=self.dtype)(x, train)
        x = nn.relu(SelfAttention(dtype=self.dtype)(x, train)).sum((1, 2))
        score = SpectralDense(1, dtype=self.dtype)(x, train)[:, 0]
        labels = SpectralEmbed(CLASSES, WIDTH, dtype=self.dtype)(label, train)
        return (score + (labels * x).sum(-1)).astype(jnp.float32)


def networks(dtype: Any) -> Mapping[str, nn.Module]:
    """Return the networks of BigGAN."""
    return {"generator": Generator(dtype), "discriminator": Discriminator(dtype)}
