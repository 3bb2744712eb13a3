"""Images of an autoencoder for people to look at: the decoder's mean, in [-1, 1]."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.nets import per_example
from genax.core.task import Batch
from genax.nn.conditions import Condition, unconditional


def sample_prior(
    nets: nn.Module, batch: Batch, condition: Condition = unconditional
) -> Float[Array, "b h w c"]:
    """Return E[x|z] with z from the prior N(0, I), one for each element of batch["index"]."""
    z = per_example(jax.random.normal, nets, batch, (nets.encoder.latent_size,))
    return 2 * nets.decoder(z, **condition(nets, batch)).mean - 1


def reconstruct(
    nets: nn.Module, batch: Batch, condition: Condition = unconditional
) -> Float[Array, "b h w2 c"]:
    """Return images, and to their right E[x|z] at the posterior's mean.

    batch["image"]: [b, h, w, c] in [0, 1].
    """
    image, given = batch["image"], condition(nets, batch)
    reconstruction = nets.decoder(nets.encoder(image, **given).mean, **given).mean
    return 2 * jnp.concatenate([image, reconstruction], axis=2) - 1
