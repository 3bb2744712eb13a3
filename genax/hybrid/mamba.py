"""Mamba as a language model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from genax.hybrid.mamba_block import MambaMixer
from genax.hybrid.recurrent_decoder import RecurrentDecoder


class Mamba(RecurrentDecoder):
    """Blocks of `MambaMixer`: Gu & Dao 2023, section 3.4.

    W_out of the blocks is drawn 1 / sqrt(num_layers) times as wide as PyTorch's linear layers, as
    in the official code.

    state_size, expand, conv_width, time_step_rank, use_bias, conv_bias, scan: see `MambaMixer`.
    """

    state_size: int = 16
    expand: int = 2
    conv_width: int = 4
    time_step_rank: int = 0
    use_bias: bool = False
    conv_bias: bool = True
    scan: str = "xla"

    @property
    def mixer(self) -> Callable[..., Any]:
        """Constructor of a block's mixer."""
        return partial(
            MambaMixer,
            self.state_size,
            self.expand,
            self.conv_width,
            self.time_step_rank,
            self.use_bias,
            self.conv_bias,
            1 / math.sqrt(self.num_layers),
            scan=self.scan,
            dtype=self.dtype,
        )


@dataclass(frozen=True)
class MambaPreset:
    """Row of Gu & Dao 2023, table 3 (downstream evaluation), with the sizes of the official code.

    learning_rate: peak learning rate.
    batch_tokens: tokens per batch.
    params: number of parameters, tied head counted once.
    vocab_size: the 50,277 tokens of GPT-NeoX, padded to a multiple of 8.
    """

    num_layers: int
    hidden_size: int
    learning_rate: float
    batch_tokens: int
    params: int
    context: int = 2048
    vocab_size: int = 50_280


# Sizes mirror GPT-3's with two blocks for each of a Transformer. Appendix E.2: rates are five times
# those of GPT-3 at the nearest size, batches are GPT-3's.
MAMBA_PRESETS = {
    "130m": MambaPreset(24, 768, 3e-3, 2**19, 129_135_360),
    "370m": MambaPreset(48, 1024, 1.5e-3, 2**19, 371_516_416),
    "790m": MambaPreset(48, 1536, 1.25e-3, 2**19, 793_204_224),
    "1.4b": MambaPreset(48, 2048, 1e-3, 2**20, 1_372_178_432),
    "2.8b": MambaPreset(64, 2560, 8e-4, 2**20, 2_768_345_600),
}
