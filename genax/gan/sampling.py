"""Images from a generator."""

from __future__ import annotations

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from genax.core.task import Batch
from genax.gan.losses import Draw, latents


def generate(
    nets: nn.Module, batch: Batch, draw: Draw = jax.random.normal
) -> Float[Array, "b h w c"]:
    """Return one image in [-1, 1] for each element of batch["index"].

    Norms use their running statistics.
    """
    return nets.generator(latents(nets, batch, draw))
