"""Networks of a language model."""

from __future__ import annotations

import flax.linen as nn


class Networks(nn.Module):
    """Networks of a language model.

    decoder: tokens [b, t] -> logits [b, t, vocab].
    """

    decoder: nn.Module
