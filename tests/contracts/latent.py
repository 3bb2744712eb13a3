"""Latent diffusion's shape (Rombach et al. 2022): an autoencoder that never changes around it.

Its encoder is kept in bfloat16 and has statistics; no loss calls its decoder.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from genax.core import Loss, Phase, Stage, Task, per_example
from tests.contracts.layers import MLP

IMAGE, LATENT = (4, 4, 1), (3,)
ELEMENT = {"image": jax.ShapeDtypeStruct(IMAGE, jnp.float32)}


class Encoder(nn.Module):
    """A layer whose outputs are normalised by running statistics."""

    dtype: Any

    @nn.compact
    def __call__(self, image):
        latent = MLP(LATENT, dtype=self.dtype)(image)
        return nn.BatchNorm(use_running_average=True, dtype=self.dtype)(latent)


class Networks(nn.Module):
    """The autoencoder's halves, and what is trained between them."""

    encoder: nn.Module
    decoder: nn.Module
    denoiser: nn.Module


def noise_loss(nets, batch):
    """Squared error of the noise that the denoiser finds in a latent."""
    noise = per_example(jax.random.normal, nets, batch, LATENT)
    found = nets.denoiser(nets.encoder(batch["image"]).astype(jnp.float32) + noise)
    return Loss((found - noise) ** 2)


def decode(nets, batch):
    """Images of latents that are noise."""
    return nets.decoder(per_example(jax.random.normal, nets, batch, LATENT))


def make(dtype: Any = jnp.float32) -> Task:
    networks = Networks(Encoder(dtype), MLP(IMAGE, dtype=dtype), MLP(LATENT, dtype=dtype))
    return Task(
        networks,
        [Stage([Phase("denoise", noise_loss, ("denoiser",), optax.adam(1e-3))])],
        ema={"**": 0.9},
        fixed={"encoder": jnp.bfloat16, "decoder": None},
        given=decode,
    )
