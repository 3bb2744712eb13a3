"""The two halves of an autoencoder."""

from __future__ import annotations

import flax.linen as nn


class Networks(nn.Module):
    """An encoder q(z|x) and a decoder p(x|z)."""

    encoder: nn.Module
    decoder: nn.Module
