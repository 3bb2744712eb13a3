"""What a state-space model keeps of the tokens read so far, as an explicit pytree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int


@struct.dataclass
class LayerState:
    """State of one layer, whose size does not depend on how many tokens it has read.

    window: the last inputs of the convolution.
    state: of the recurrence, at least float32.
    """

    window: Float[Array, "*layers b w c"]
    state: Float[Array, "*layers b ..."]


@struct.dataclass
class RecurrentState:
    """State of left-to-right decoding, for all layers.

    layers: one LayerState per layer, or a single one with a leading axis of layers if the layers
      are scanned.
    """

    layers: LayerState | tuple[LayerState, ...]

    @classmethod
    def empty(cls, layer: LayerState, num_layers: int, scanned: bool) -> RecurrentState:
        """Return the state before the first token, of equal layers that begin as `layer`."""
        if not scanned:
            return cls((layer,) * num_layers)
        return cls(jax.tree.map(lambda x: jnp.broadcast_to(x, (num_layers, *x.shape)), layer))

    def take(self, rows: Int[Array, " b"]) -> RecurrentState:
        """Return the state whose sequence i is sequence rows[i]."""
        return self._by_sequence(lambda x, axis: jnp.take(x, rows, axis))

    def repeat(self, times: int) -> RecurrentState:
        """Return the state with each sequence repeated `times` times in a row."""
        return self._by_sequence(lambda x, axis: jnp.repeat(x, times, axis))

    def _by_sequence(self, change: Callable[[Any, int], Any]) -> RecurrentState:
        axis = 1 if isinstance(self.layers, LayerState) else 0
        return replace(self, layers=jax.tree.map(lambda x: change(x, axis), self.layers))
