"""The two players."""

from __future__ import annotations

import flax.linen as nn


class Networks(nn.Module):
    """A generator and the discriminator it is trained against."""

    generator: nn.Module
    discriminator: nn.Module
