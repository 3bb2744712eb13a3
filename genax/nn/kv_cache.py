"""Keys and values of the tokens read so far, as an explicit pytree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jaxtyping import Array, Bool, Float, Int


@struct.dataclass
class LayerCache:
    """One attention layer's keys and values: [batch, slots, kv_heads, head_dim]."""

    key: Float[Array, "*layers b s n h"]
    value: Float[Array, "*layers b s n h"]

    def write(
        self,
        key: Float[Array, "b t n h"],
        value: Float[Array, "b t n h"],
        start: Int[Array, ""] | int,
    ) -> LayerCache:
        """This cache with t more tokens in the slots from `start` on."""

        def put(old, new):
            return lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), start, axis=1)

        return LayerCache(put(self.key, key), put(self.value, value))


@struct.dataclass
class BlockCache:
    """Keys and values of one block: its own tokens', and its memory's where it reads one."""

    own: LayerCache
    memory: LayerCache | None = None


@struct.dataclass
class KVCache:
    """The state of left-to-right decoding, for all layers.

    layers: one BlockCache for each layer, or a single one with a leading axis of layers where
      the layers are scanned.
    valid: whether a slot holds a token; padding fills slots but is never attended to.
    used: slots filled so far, the same for all sequences.
    memory_mask: which places of the memory may be attended to, where there is one.
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
        """A cache for `slots` tokens a sequence, padding included."""
        stack = (num_layers,) if scanned else ()
        zeros = jnp.zeros((*stack, batch_size, slots, num_heads, head_dim), dtype)
        layer = BlockCache(LayerCache(zeros, zeros))
        return cls(
            layers=layer if scanned else (layer,) * num_layers,
            valid=jnp.zeros((batch_size, slots), bool),
            used=jnp.zeros((), jnp.int32),
        )

    @property
    def slots(self) -> int:
        """Tokens that fit, padding included."""
        return self.valid.shape[1]

    def take(self, rows: Int[Array, " b"]) -> KVCache:
        """The cache whose sequence i is that of rows[i], of the same memory."""

        def one(layer: BlockCache, axis: int) -> BlockCache:
            return replace(layer, own=jax.tree.map(lambda x: jnp.take(x, rows, axis), layer.own))

        layers: Any
        if isinstance(self.layers, BlockCache):
            layers = one(self.layers, 1)
        else:
            layers = tuple(one(layer, 0) for layer in self.layers)
        return replace(self, layers=layers, valid=self.valid[rows])

    def repeat(self, times: int) -> KVCache:
        """Each sequence so many times in a row, its memory too."""
        axis = 0 if isinstance(self.layers, tuple) else 1
        layers = jax.tree.map(lambda x: jnp.repeat(x, times, axis), self.layers)
        valid = jnp.repeat(self.valid, times, 0)
        if self.memory_mask is None:
            return replace(self, layers=layers, valid=valid)
        memory_mask = jnp.repeat(self.memory_mask, times, 0)
        return replace(self, layers=layers, valid=valid, memory_mask=memory_mask)

    def positions(self, mask: Bool[Array, "b t"]) -> Int[Array, "b t"]:
        """Positions of t further tokens: each counts the real tokens before it."""
        seen = self.valid.sum(1, keepdims=True, dtype=jnp.int32)
        return jnp.maximum(seen + jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)

    def admit(self, mask: Bool[Array, "b t"]) -> tuple[KVCache, Bool[Array, "b t s"]]:
        """Reserve slots for t further tokens.

        Returns the cache whose `valid` and `used` include them, and which slots each of them may
        attend to: real tokens up to itself.
        """
        length = mask.shape[1]
        valid = lax.dynamic_update_slice_in_dim(self.valid, mask, self.used, axis=1)
        own = self.used + jnp.arange(length)
        causal = jnp.arange(self.slots)[None] <= own[:, None]
        return (
            replace(self, valid=valid, used=self.used + length),
            valid[:, None] & causal[None],
        )
