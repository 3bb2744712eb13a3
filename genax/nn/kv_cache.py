"""Keys and values of the tokens read so far, as an explicit pytree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jaxtyping import Array, Bool, Float, Int


@struct.dataclass
class LayerCache:
    """Keys and values of one attention layer, [batch * kv_heads, slots, head_dim].

    `attend_once` reads them in this shape. If they had to be transposed or reshaped, XLA would copy
    the whole cache for each token on a CPU.
    """

    key: Float[Array, "*layers bn s h"]
    value: Float[Array, "*layers bn s h"]

    @classmethod
    def of(cls, key: Float[Array, "b s n h"], value: Float[Array, "b s n h"]) -> LayerCache:
        """Return the cache that holds these keys and values and has no further slots."""
        return cls(_heads_first(key), _heads_first(value))

    def read(self, heads: int) -> tuple[Float[Array, "b s n h"], Float[Array, "b s n h"]]:
        """Return the keys and values of all slots."""

        def get(x):
            return x.reshape(-1, heads, *x.shape[1:]).swapaxes(1, 2)

        return get(self.key), get(self.value)

    def write(
        self,
        key: Float[Array, "b t n h"],
        value: Float[Array, "b t n h"],
        start: Int[Array, ""] | int,
    ) -> LayerCache:
        """Return this cache with t more tokens in the slots from `start` on."""

        def put(old, new):
            new = _heads_first(new).astype(old.dtype)
            return lax.dynamic_update_slice_in_dim(old, new, start, axis=1)

        return LayerCache(put(self.key, key), put(self.value, value))


def _heads_first(x: Float[Array, "b s n h"]) -> Float[Array, "bn s h"]:
    b, s, n, h = x.shape
    return x.swapaxes(1, 2).reshape(b * n, s, h)


@struct.dataclass
class BlockCache:
    """Keys and values of one block: of its own tokens and, with cross-attention, of its memory."""

    own: LayerCache
    memory: LayerCache | None = None


@struct.dataclass
class KVCache:
    """State of left-to-right decoding, for all layers.

    layers: one BlockCache per layer, or a single one with a leading axis of layers if the layers
      are scanned.
    valid: [b, s], which slots hold a real token. Padding fills slots but is never attended to.
    used: number of slots filled so far, the same for all sequences.
    memory_mask: [b, m], which positions of the memory are real. None means all, or no memory.
    """

    layers: BlockCache | tuple[BlockCache, ...]
    valid: Bool[Array, "b s"]
    used: Int[Array, ""]
    memory_mask: Bool[Array, "b m"] | None = None

    @classmethod
    def empty(
        cls,
        num_layers: int,
        batch_size: int,
        slots: int,
        num_heads: int,
        head_dim: int,
        dtype: Any = jnp.float32,
        scanned: bool = False,
    ) -> KVCache:
        """Return a cache for `slots` tokens per sequence, padding included."""
        stack = (num_layers,) if scanned else ()
        zeros = jnp.zeros((*stack, batch_size * num_heads, slots, head_dim), dtype)
        layer = BlockCache(LayerCache(zeros, zeros))
        return cls(
            layers=layer if scanned else (layer,) * num_layers,
            valid=jnp.zeros((batch_size, slots), bool),
            used=jnp.zeros((), jnp.int32),
        )

    @property
    def slots(self) -> int:
        """Number of tokens that fit, padding included."""
        return self.valid.shape[1]

    def take(self, rows: Int[Array, " b"]) -> KVCache:
        """Return the cache whose sequence i is sequence rows[i], with the memory unchanged."""

        def one(layer: BlockCache) -> BlockCache:
            return replace(
                layer, own=self._by_sequence(lambda x, i: jnp.take(x, rows, i), layer.own)
            )

        layers = self.layers
        layers = one(layers) if isinstance(layers, BlockCache) else tuple(map(one, layers))
        return replace(self, layers=layers, valid=self.valid[rows])

    def repeat(self, times: int) -> KVCache:
        """Return the cache with each sequence and its memory repeated `times` times in a row."""
        layers = self._by_sequence(lambda x, i: jnp.repeat(x, times, i), self.layers)
        valid = jnp.repeat(self.valid, times, 0)
        if self.memory_mask is None:
            return replace(self, layers=layers, valid=valid)
        memory_mask = jnp.repeat(self.memory_mask, times, 0)
        return replace(self, layers=layers, valid=valid, memory_mask=memory_mask)

    def _by_sequence(self, change: Callable[[Array, int], Array], layers: Any) -> Any:
        """Apply change(x, axis) to keys and values with their sequences on an axis of their own."""

        def one(x):
            *stack, rows, slots, size = x.shape
            sequences = len(self.valid)
            x = change(x.reshape(*stack, sequences, rows // sequences, slots, size), len(stack))
            return x.reshape(*stack, -1, slots, size)

        return jax.tree.map(one, layers)

    def positions(self, mask: Bool[Array, "b t"]) -> Int[Array, "b t"]:
        """Return the positions of t further tokens: each counts the real tokens before it."""
        seen = self.valid.sum(1, keepdims=True, dtype=jnp.int32)
        return jnp.maximum(seen + jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)

    def admit(self, mask: Bool[Array, "b t"]) -> tuple[KVCache, Bool[Array, "b t s"]]:
        """Reserve slots for t further tokens.

        Returns the cache whose `valid` and `used` include the tokens, and which slots each of them
        may attend to: real tokens up to itself.
        """
        length = mask.shape[1]
        valid = lax.dynamic_update_slice_in_dim(self.valid, mask, self.used, axis=1)
        own = self.used + jnp.arange(length)
        causal = jnp.arange(self.slots)[None] <= own[:, None]
        return (
            replace(self, valid=valid, used=self.used + length),
            valid[:, None] & causal[None],
        )
