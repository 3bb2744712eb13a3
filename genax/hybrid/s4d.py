"""S4D as a language model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from genax.hybrid.recurrent_decoder import RecurrentDecoder
from genax.hybrid.s4d_block import S4DMixer


class S4D(RecurrentDecoder):
    """Blocks of `S4DMixer`, with the embedding, norms and head of `Mamba`.

    state_size, smallest, largest, dropout: see `S4DMixer`.
    """

    state_size: int = 64
    smallest: float = 1e-3
    largest: float = 0.1
    dropout: float = 0.0

    @property
    def mixer(self) -> Callable[..., Any]:
        """Constructor of a block's mixer."""
        return partial(
            S4DMixer,
            self.state_size,
            self.smallest,
            self.largest,
            self.dropout,
            dtype=self.dtype,
        )
