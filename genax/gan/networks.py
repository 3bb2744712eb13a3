"""Networks of a GAN."""

from __future__ import annotations

import flax.linen as nn


class Networks(nn.Module):
    """Networks of a GAN.

    generator: latents [b, z] -> images.
    discriminator: images -> logits of being real [b]; the generator's opponent.
    """

    generator: nn.Module
    discriminator: nn.Module
