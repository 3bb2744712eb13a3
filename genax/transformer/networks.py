"""The networks of a language model."""

from __future__ import annotations

import flax.linen as nn


class Networks(nn.Module):
    """decoder: tokens [b, t] -> logits [b, t, vocab]."""

    decoder: nn.Module
