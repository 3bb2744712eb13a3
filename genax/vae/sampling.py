"""Images of an autoencoder for people to look at: the decoder's mean, in [-1, 1]."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.nets import per_example
from genax.core.task import Batch


def sample_prior(nets: nn.Module, batch: Batch) -> Float[Array, "b h w c"]:
    """Return E[x|z] with z from the prior N(0, I), one for each element of batch["index"]."""
    z = per_example(jax.random.normal, nets, batch, (nets.encoder.latent_size,))
    return 2 * nets.decoder(z).mean - 1


def reconstruct(nets: nn.Module, batch: Batch) -> Float[Array, "b h w2 c"]:
    """Return images, and to their right E[x|z] at the posterior's mean.

    batch["image"]: [b, h, w, c] in [0, 1].
    """
    image = batch["image"]
    reconstruction = nets.decoder(nets.encoder(image).mean).mean
    return 2 * jnp.concatenate([image, reconstruction], axis=2) - 1
