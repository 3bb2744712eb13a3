"""The decoder of GPT-2 and GPT-3."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from genax.core.errors import GenaxError
from genax.nn.attention import Attention
from genax.nn.feed_forward import FeedForward
from genax.nn.kv_cache import KVCache, LayerCache
from genax.nn.layer_norm import LayerNorm

# Placement of parameters over the mesh: heads and the feed-forward width over "tensor" (Shoeybi et
# al. 2019, section 3), the model width over "fsdp". Layers under nn.scan have a leading axis more.
_RULES = (
    ("**/token_embedding/embedding", ("tensor", "fsdp")),
    ("**/position_embedding/embedding", (None, "fsdp")),
    ("**/attention/qkv/kernel", ("fsdp", None, "tensor", None)),
    ("**/attention/qkv/bias", (None, "tensor", None)),
    ("**/attention/output/kernel", ("tensor", None, "fsdp")),
    ("**/feed_forward/expand/kernel", ("fsdp", "tensor")),
    ("**/feed_forward/expand/bias", ("tensor",)),
    ("**/feed_forward/output/kernel", ("tensor", "fsdp")),
)
PARTITION_RULES = tuple(
    rule for path, axes in _RULES for rule in ((path, axes), (path, (None, *axes)))
)


class Block(nn.Module):
    """Attention and feed-forward network, each after a layer norm and added to its input.

    Radford et al. 2019, section 2.3. residual_scale: factor on the initial size of the layers that
    write to the residual stream.
    """

    num_heads: int
    mlp_size: int
    dropout: float
    use_bias: bool
    epsilon: float
    init_scale: float
    residual_scale: float
    attention: str
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        cache: LayerCache | None,
        mask: Bool[Array, "b #t s"] | None,
        start: Int[Array, ""] | int,
        train: bool,
    ) -> tuple[Float[Array, "b t d"], LayerCache | None]:
        """The new values of x, and the cache with the keys and values of x."""
        layer: dict[str, Any] = {
            "use_bias": self.use_bias,
            "kernel_init": nn.initializers.normal(self.init_scale),
            "output_init": nn.initializers.normal(self.init_scale * self.residual_scale),
            "dtype": self.dtype,
        }
        drop = nn.Dropout(self.dropout, deterministic=not train)
        y = LayerNorm(self.epsilon, self.use_bias, name="attention_norm")(x)
        y, cache = Attention(
            self.num_heads,
            causal=True,
            dropout=self.dropout,
            implementation=self.attention,
            name="attention",
            **layer,
        )(y, None, mask, cache, start, train)
        x = x + drop(y)
        y = LayerNorm(self.epsilon, self.use_bias, name="feed_forward_norm")(x)
        y = FeedForward(self.mlp_size, name="feed_forward", **layer)(y)
        return x + drop(y), cache


class GPT(nn.Module):
    """GPT-2's decoder: Radford et al. 2019, section 2.3; GPT-3's, but for its sparse attention.

    Pre-norm blocks, a final norm, learned positions, and the token embedding as the head. GPT-3
    (Brown et al. 2020, section 2.1) alternates dense with locally banded sparse attention, whose
    bands it does not publish; here all layers are dense, with the same parameters.

    context: positions learned. mlp_size: None is 4 * hidden_size. scan_layers: compile one block
    and loop over it; the blocks' parameters then have a leading axis of layers. remat: recompute
    blocks in the backward pass, for memory. attention: see `genax.nn.attention.attend`.
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
    remat: bool = False
    attention: str = "auto"
    dtype: Any = jnp.float32

    def setup(self):
        """Embeddings, blocks and the final norm."""
        init = nn.initializers.normal(self.init_scale)
        self.token_embedding = nn.Embed(
            self.vocab_size, self.hidden_size, dtype=self.dtype, embedding_init=init
        )
        self.position_embedding = nn.Embed(
            self.context, self.hidden_size, dtype=self.dtype, embedding_init=init
        )
        self.drop = nn.Dropout(self.dropout)
        # XLA may not merge the recomputed block with the first one; a scan already keeps it apart.
        block: Any = Block
        if self.remat:
            block = nn.remat(Block, prevent_cse=not self.scan_layers, static_argnums=(5,))
        settings = {
            "num_heads": self.num_heads,
            "mlp_size": self.mlp_size or 4 * self.hidden_size,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "epsilon": self.epsilon,
            "init_scale": self.init_scale,
            "residual_scale": 1 / math.sqrt(2 * self.num_layers),
            "attention": self.attention,
            "dtype": self.dtype,
        }
        if self.scan_layers:
            self.blocks = nn.scan(
                block,
                variable_axes={"params": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
                out_axes=0,
                length=self.num_layers,
            )(**settings)
        else:
            self.blocks = [block(**settings) for _ in range(self.num_layers)]
        self.final_norm = LayerNorm(self.epsilon, self.use_bias)

    def __call__(
        self,
        tokens: Int[Array, "b t"],
        mask: Bool[Array, "b t"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b t vocab"]:
        """Scores of the token after each position.

        mask: which tokens are real; the others are padding on either side, are not attended to
        and do not count as positions. Raises GenaxError for more tokens than the context holds.
        """
        return self.logits(self.hidden(tokens, mask, train))

    def hidden(
        self,
        tokens: Int[Array, "b t"],
        mask: Bool[Array, "b t"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b t d"]:
        """What the head reads, for losses that do not want all logits at once."""
        length = tokens.shape[1]
        if length > self.context:
            raise GenaxError(
                f"GPT: {length} tokens exceed the context of {self.context}; shorten the sequences "
                "or build the model with a larger context."
            )
        if mask is None:
            return self._run(tokens, jnp.arange(length)[None], train=train)[0]
        positions = jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)
        return self._run(tokens, positions, mask[:, None], train=train)[0]

    def logits(self, hidden: Float[Array, "b t d"]) -> Float[Array, "b t vocab"]:
        """Scores over the vocabulary: products with the token embeddings (tied head)."""
        return self.token_embedding.attend(hidden)

    def empty_cache(self, batch_size: int, slots: int) -> KVCache:
        """A cache for `slots` tokens a sequence, padding included."""
        head_dim = self.hidden_size // self.num_heads
        return KVCache.empty(
            self.num_layers,
            batch_size,
            slots,
            self.num_heads,
            head_dim,
            self.dtype,
            self.scan_layers,
        )

    def decode(
        self, tokens: Int[Array, "b t"], cache: KVCache, mask: Bool[Array, "b t"] | None = None
    ) -> tuple[Float[Array, "b vocab"], KVCache]:
        """Read t further tokens; scores of the token after the last, and the cache with them.

        mask: which tokens are real. The caller keeps the number of slots and positions.
        """
        mask = jnp.ones(tokens.shape, bool) if mask is None else mask
        start, positions = cache.used, cache.positions(mask)
        cache, allowed = cache.admit(mask)
        hidden, layers = self._run(tokens, positions, allowed, cache.layers, start)
        return self.logits(hidden[:, -1:])[:, 0], replace(cache, layers=layers)

    def _run(self, tokens, positions, mask=None, layers=None, start=0, train=False):
        x = self.token_embedding(tokens) + self.position_embedding(positions)
        x = self.drop(x, deterministic=not train)
        if self.scan_layers:
            x, layers = self.blocks(x, layers, mask, start, train)
        else:
            written = []
            for block, layer in zip(self.blocks, layers or [None] * self.num_layers, strict=True):
                x, layer = block(x, layer, mask, start, train)
                written.append(layer)
            layers = tuple(written)
        return self.final_norm(x), layers
