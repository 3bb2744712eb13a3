"""Mamba-2 as a language model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from genax.hybrid.mamba2_block import Mamba2Mixer, num_heads
from genax.hybrid.recurrent_decoder import RecurrentDecoder
from genax.hybrid.state_space_dual import CHUNK


class Mamba2(RecurrentDecoder):
    """Blocks of `Mamba2Mixer`: Dao & Gu 2024, section 7.

    W_out of the blocks is drawn 1 / sqrt(num_layers) times as wide as PyTorch's linear layers, as
    in the official code.

    state_size, expand, conv_width, head_dim, groups, use_bias, conv_bias, chunk_size: see
      `Mamba2Mixer`.
    """

    state_size: int = 128
    expand: int = 2
    conv_width: int = 4
    head_dim: int = 64
    groups: int = 1
    chunk_size: int = CHUNK
    use_bias: bool = False
    conv_bias: bool = True

    @property
    def num_heads(self) -> int:
        """Number of heads of a block.

        Raises GenaxError for heads and groups that do not divide the channels.
        """
        return num_heads(self.expand * self.hidden_size, self.head_dim, self.groups)

    @property
    def mixer(self) -> Callable[..., Any]:
        """Constructor of a block's mixer."""
        return partial(
            Mamba2Mixer,
            self.state_size,
            self.expand,
            self.conv_width,
            self.head_dim,
            self.groups,
            self.chunk_size,
            self.epsilon,
            self.use_bias,
            self.conv_bias,
            1 / math.sqrt(self.num_layers),
            dtype=self.dtype,
        )


@dataclass(frozen=True)
class Mamba2Preset:
    """Row of Dao & Gu 2024, table 1, with the sizes of the official code.

    learning_rate: peak learning rate.
    batch_tokens: tokens per batch.
    params: number of parameters, tied head counted once.
    vocab_size: the 50,277 tokens of GPT-NeoX, padded to a multiple of 16.
    """

    num_layers: int
    hidden_size: int
    learning_rate: float
    batch_tokens: int
    params: int
    state_size: int = 128
    head_dim: int = 64
    context: int = 2048
    vocab_size: int = 50_288


# Rates and batches are those of Mamba (`genax.hybrid.mamba.MAMBA_PRESETS`).
MAMBA2_PRESETS = {
    "130m": Mamba2Preset(24, 768, 3e-3, 2**19, 128_989_632),
    "370m": Mamba2Preset(48, 1024, 1.5e-3, 2**19, 368_346_624),
    "780m": Mamba2Preset(48, 1536, 1.25e-3, 2**19, 780_161_280),
    "1.3b": Mamba2Preset(48, 2048, 1e-3, 2**20, 1_343_757_312),
    "2.7b": Mamba2Preset(64, 2560, 8e-4, 2**20, 2_702_599_680),
}
