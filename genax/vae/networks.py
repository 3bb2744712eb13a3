"""Networks of an autoencoder."""

from __future__ import annotations

import flax.linen as nn


class Networks(nn.Module):
    """Networks of an autoencoder.

    encoder: q(z|x).
    decoder: p(x|z).
    """

    encoder: nn.Module
    decoder: nn.Module
