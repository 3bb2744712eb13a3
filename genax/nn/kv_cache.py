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
    """One attention layer's keys and values: [batch * kv_heads, slots, head_dim].

    The products of `attend_once` read them just so. If they had to be transposed or reshaped, XLA
    would copy the whole cache for each token on a CPU.
    """

    key: Float[Array, "*layers bn s h"]
    value: Float[Array, "*layers bn s h"]

    @classmethod
    def of(cls, key: Float[Array, "b s n h"], value: Float[Array, "b s n h"]) -> LayerCache:
        """The cache that holds these and has no further slots."""
        return cls(_heads_first(key), _heads_first(value))

    def read(self, heads: int) -> tuple[Float[Array, "b s n h"], Float[Array, "b s n h"]]:
        """Keys and values of all slots."""

        def get(x):
            return x.reshape(-1, heads, *x.shape[1:]).swapaxes(1, 2)

        return get(self.key), get(self.value)

    def write(
        self,
        key: Float[Array, "b t n h"],
        value: Float[Array, "b t n h"],
        start: Int[Array, ""] | int,
    ) -> LayerCache:
        """This cache with t more tokens in the slots from `start` on."""

        def put(old, new):
            new = _heads_first(new).astype(old.dtype)
            return lax.dynamic_update_slice_in_dim(old, new, start, axis=1)

        return LayerCache(put(self.key, key), put(self.value, value))


def _heads_first(x: Float[Array, "b s n h"]) -> Float[Array, "bn s h"]:
    b, s, n, h = x.shape
    return x.swapaxes(1, 2).reshape(b * n, s, h)


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
        zeros = jnp.zeros((*stack, batch_size * num_heads, slots, head_dim), dtype)
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

        def one(layer: BlockCache) -> BlockCache:
            return replace(
                layer, own=self._by_sequence(lambda x, i: jnp.take(x, rows, i), layer.own)
            )

        layers = self.layers
        layers = one(layers) if isinstance(layers, BlockCache) else tuple(map(one, layers))
        return replace(self, layers=layers, valid=self.valid[rows])

    def repeat(self, times: int) -> KVCache:
        """Each sequence so many times in a row, its memory too."""
        layers = self._by_sequence(lambda x, i: jnp.repeat(x, times, i), self.layers)
        valid = jnp.repeat(self.valid, times, 0)
        if self.memory_mask is None:
            return replace(self, layers=layers, valid=valid)
        memory_mask = jnp.repeat(self.memory_mask, times, 0)
        return replace(self, layers=layers, valid=valid, memory_mask=memory_mask)

    def _by_sequence(self, change: Callable[[Array, int], Array], layers: Any) -> Any:
        """change(x, axis of the sequences) for keys and values, where that axis is on its own."""

        def one(x):
            *stack, rows, slots, size = x.shape
            sequences = len(self.valid)
            x = change(x.reshape(*stack, sequences, rows // sequences, slots, size), len(stack))
            return x.reshape(*stack, -1, slots, size)

        return jax.tree.map(one, layers)

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
