"""Packing: a discriminator that scores several samples together."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.errors import GenaxError


class Packed(nn.Module):
    """Discriminator of packs, whose channels are those of all samples of a pack.

    Lin et al. 2018, PacGAN (arXiv:1712.04086), section 2. A pack is `size` neighbours in the batch,
    or in the microbatch, which makes other packs of the same independent samples. Its score stands
    for each of them (see `for_each_image`).

    discriminator: of samples with `size` times as many channels.
    """

    discriminator: nn.Module
    size: int

    @nn.compact
    def __call__(self, x: Float[Array, "b *places c"], train: bool = False, **given: Any) -> Array:
        """Return one score for each pack, [b / size].

        Raises GenaxError for a batch that packs do not divide, and for a condition of the samples.
        """
        if given:
            other = ", or config.num_classes=0" if "label" in given else ""
            raise GenaxError(
                f"packs of {self.size} samples are scored without {', '.join(given)}: set "
                f"config.pack=1{other}."
            )
        if self.is_initializing():
            x = jnp.repeat(x[:1], self.size, axis=0)
        if len(x) % self.size:
            raise GenaxError(
                f"{len(x)} samples on a device or in a microbatch do not divide into packs of "
                f"{self.size}: choose config.batch_size, config.accumulate and config.pack so that "
                "they do."
            )
        packs = jnp.moveaxis(x.reshape(-1, self.size, *x.shape[1:]), 1, -2)
        return self.discriminator(packs.reshape(*packs.shape[:-2], -1), train=train)
