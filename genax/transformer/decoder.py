"""Base of all left-to-right decoders: whole sequences, and decoding with a cache."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from genax.core.errors import GenaxError
from genax.core.mesh import platform
from genax.nn.attention import head_sizes
from genax.nn.block import Context
from genax.nn.kv_cache import KVCache
from genax.nn.rotary import Rotation
from genax.nn.stack import run_blocks
from genax.transformer.packing import packed_mask, packed_positions
from genax.transformer.token_range import check_tokens


def table_scores(table: nn.Embed, hidden: Float[Array, "b t d"]) -> Float[Array, "b t vocab"]:
    """Return the products of the hidden states with the rows of the table."""
    b, t, d = hidden.shape
    if platform() != "cpu" or not 1 < b * t <= 64:
        return table.attend(hidden)
    # For few hidden states XLA spends most of the time on transposing the table, unless the table
    # is the left operand. The barrier keeps XLA from swapping them back.
    rows = table.embedding.astype(table.dtype)
    scores = jnp.einsum("vd,xd->vx", rows, hidden.astype(table.dtype).reshape(b * t, d))
    return lax.optimization_barrier(scores).T.reshape(b, t, -1)


class Decoder(nn.Module):
    """Token embeddings, blocks and a head. A family is a subclass whose setup makes them.

    The setup makes token_embedding (Embed), blocks (by `make_blocks`), final_norm (a module or
    None) and, unless tied_head, head (Embed), whose rows are then the head's.

    context: tokens per sequence.
    mlp_size: width of the feed-forward network. None means the family's own rule.
    init_scale: standard deviation of the initial weights.
    scan_layers: compile one block and loop over it. The blocks' parameters then have a leading axis
      of layers.
    remat: see `genax.nn.rematerialise`.
    attention: see `genax.nn.attention.attend`.
    tied_head: take the rows of the token embedding as the head's.
    """

    vocab_size: int
    context: int
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_size: int | None = None
    dropout: float = 0.0
    use_bias: bool = True
    epsilon: float = 1e-5
    init_scale: float = 0.02
    scan_layers: bool = False
    remat: str = "none"
    attention: str = "auto"
    dtype: Any = jnp.float32
    tied_head: bool = True

    @abstractmethod
    def embed(self, tokens: Int[Array, "b t"], positions: Int[Array, "#b t"], train: bool) -> Array:
        """Return the first block's input, [b, t, d]."""
        ...

    def rotation(self, positions: Int[Array, "#b t"]) -> Rotation | None:
        """Return the rotation of queries and keys, or None if the positions are not rotary."""
        return None

    @property
    def query_scales(self) -> Float[Array, " layers"] | None:
        """The factor of the queries in each layer, if there is one."""
        return None

    def score_bias(
        self, length: int, slots: int, start: Int[Array, ""] | int
    ) -> Float[Array, "1 n t s"] | None:
        """Return what is added to the scores of self-attention, or None.

        length: number of queries, in the slots from `start` on.
        slots: number of keys, one in each slot.
        """
        return None

    @property
    def head_table(self) -> nn.Embed:
        """Table whose products with the hidden state are the logits."""
        return self.token_embedding if self.tied_head else self.head

    def logits(self, hidden: Float[Array, "b t d"]) -> Float[Array, "b t vocab"]:
        """Return scores over the vocabulary."""
        return table_scores(self.head_table, hidden)

    @property
    def cache_heads(self) -> tuple[int, int]:
        """Number of key heads, and the size of each."""
        return head_sizes(self.hidden_size, self.num_heads)

    def __call__(
        self,
        tokens: Int[Array, "b t"],
        mask: Bool[Array, "b t"] | None = None,
        train: bool = False,
        segments: Int[Array, "b t"] | None = None,
        memory: Float[Array, "b m e"] | None = None,
        memory_mask: Bool[Array, "b m"] | None = None,
        positions: Int[Array, "#b t"] | None = None,
    ) -> Float[Array, "b t vocab"]:
        """Return scores of the token after each position.

        mask: which tokens are real. The others are padding on either side and are not attended to.
        train: whether dropout is on.
        segments: numbers of the documents packed into a sequence, which do not see each other. 0 is
          padding.
        memory: [b, m, e], read by cross-attention.
        memory_mask: [b, m], which positions of the memory are real.
        positions: None counts real tokens, from 0 in each document.
        Raises GenaxError for more tokens than the context holds.
        """
        hidden = self.hidden(tokens, mask, train, segments, memory, memory_mask, positions)
        return self.logits(hidden)

    def hidden(
        self,
        tokens: Int[Array, "b t"],
        mask: Bool[Array, "b t"] | None = None,
        train: bool = False,
        segments: Int[Array, "b t"] | None = None,
        memory: Float[Array, "b m e"] | None = None,
        memory_mask: Bool[Array, "b m"] | None = None,
        positions: Int[Array, "#b t"] | None = None,
    ) -> Float[Array, "b t d"]:
        """Return the head's input, for losses that do not want all logits at once.

        The arguments are those of `__call__`.
        """
        length = tokens.shape[1]
        tokens = check_tokens(tokens, self.vocab_size, type(self).__name__)
        if length > self.context:
            raise GenaxError(
                f"{type(self).__name__}: {length} tokens exceed the context of {self.context}; "
                "shorten the sequences or build the model with a larger context."
            )
        counted, allowed = jnp.arange(length)[None], None
        if segments is not None:
            counted, allowed = packed_positions(segments), packed_mask(segments)
        elif mask is not None:
            counted = jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)
            allowed = mask[:, None]
        positions = counted if positions is None else positions
        context = Context(
            mask=allowed,
            bias=self.score_bias(length, length, 0),
            rotation=self.rotation(positions),
            memory=memory,
            memory_mask=None if memory_mask is None else memory_mask[:, None],
        )
        return self._run(tokens, positions, context, None, train)[0]

    def empty_cache(self, batch_size: int, slots: int) -> KVCache:
        """Return a cache for `slots` tokens per sequence, padding included."""
        heads, size = self.cache_heads
        scanned = self.scan_layers
        return KVCache.empty(self.num_layers, batch_size, slots, heads, size, self.dtype, scanned)

    def decode(
        self,
        tokens: Int[Array, "b t"],
        cache: KVCache,
        mask: Bool[Array, "b t"] | None = None,
        memory: Float[Array, "b m e"] | None = None,
        memory_mask: Bool[Array, "b m"] | None = None,
    ) -> tuple[Float[Array, "b vocab"], KVCache]:
        """Read t further tokens.

        The caller makes sure that there are enough slots and positions.

        mask: which tokens are real. None means all.
        memory, memory_mask: see `__call__`, given in the first call only. The cache then holds
          them.
        Returns scores of the token after the last, and the cache with the tokens.
        """
        tokens = check_tokens(tokens, self.vocab_size, type(self).__name__)
        mask = jnp.ones(tokens.shape, bool) if mask is None else mask
        start, positions = cache.used, cache.positions(mask)
        cache, allowed = cache.admit(mask)
        if memory_mask is not None:
            cache = replace(cache, memory_mask=memory_mask)
        context = Context(
            mask=allowed,
            bias=self.score_bias(tokens.shape[1], cache.slots, start),
            rotation=self.rotation(positions),
            memory=memory,
            memory_mask=None if cache.memory_mask is None else cache.memory_mask[:, None],
            start=start,
        )
        hidden, layers = self._run(tokens, positions, context, cache.layers, False)
        last = jnp.where(mask, jnp.arange(mask.shape[1]), 0).max(1)
        hidden = jnp.take_along_axis(hidden, last[:, None, None], axis=1)
        return self.logits(hidden)[:, 0], replace(cache, layers=layers)

    def _run(self, tokens, positions, context, layers, train):
        x = self.embed(tokens, positions, train)
        x, layers = run_blocks(self.blocks, x, context, layers, train, self.query_scales)
        return (x if self.final_norm is None else self.final_norm(x)), layers
