"""T5: an encoder-decoder with relative positions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from genax.core.errors import GenaxError
from genax.nn.attention import Attention, head_sizes
from genax.nn.block import Block, Context
from genax.nn.feed_forward import FeedForward
from genax.nn.gated_feed_forward import GatedFeedForward
from genax.nn.rms_norm import RMSNorm
from genax.nn.stack import make_blocks, run_blocks
from genax.transformer.decoder import Decoder, table_scores
from genax.transformer.token_range import check_tokens


def relative_buckets(
    distances: Int[Array, "*shape"], num_buckets: int, max_distance: int, causal: bool
) -> Int[Array, "*shape"]:
    """Return the bucket of each distance key - query: Raffel et al. 2020, section 2.1.

    Half of the buckets are for single distances. The rest grow logarithmically up to max_distance,
    beyond which all distances share the last one. Unless causal, each direction has half of the
    buckets.

    Raises GenaxError if a direction has fewer than two buckets, or if max_distance does not exceed
    the single distances.
    """
    behind = jnp.zeros_like(distances)
    if causal:
        distances = jnp.maximum(-distances, 0)
    else:
        num_buckets //= 2
        behind = num_buckets * (distances > 0)
        distances = jnp.abs(distances)
    exact = num_buckets // 2
    if exact < 1 or max_distance <= exact:
        raise GenaxError(
            f"relative positions: {num_buckets} buckets in one direction hold {exact} single "
            f"distances and others up to max_distance={max_distance}; choose at least 2 buckets, "
            f"and a max_distance above {exact}."
        )
    growth = jnp.log(jnp.maximum(distances, 1).astype(jnp.float32) / exact)
    growth = growth / math.log(max_distance / exact) * (num_buckets - exact)
    far = jnp.minimum(exact + growth.astype(jnp.int32), num_buckets - 1)
    return behind + jnp.where(distances < exact, distances, far)


class T5(Decoder):
    """Pre-norm stacks with RMSNorm, relative positions and unscaled attention, without biases.

    Raffel et al. 2020, section 2.1. As a `Decoder`, it reads the target. `encode` makes the memory
    of the source.

    num_layers: layers of the decoder.
    num_encoder_layers: layers of the encoder. None means num_layers.
    head_dim: size of a head. None means hidden_size / num_heads.
    num_buckets, max_distance: see `relative_buckets`.
    gated: use the gated network of T5 1.1 (Shazeer 2020).
    scale_logits: divide the logits by sqrt(hidden_size), as with a tied head. T5 1.1 has neither.
    """

    use_bias: bool = False
    epsilon: float = 1e-6
    num_encoder_layers: int | None = None
    head_dim: int | None = None
    num_buckets: int = 32
    max_distance: int = 128
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    gated: bool = False
    scale_logits: bool = True

    def setup(self):
        """Make the embeddings, both stacks, their norms and the head."""
        width, mlp_size = self.hidden_size, self.mlp_size or 4 * self.hidden_size
        init = nn.initializers.normal(width**-0.5)
        out = nn.initializers.normal(mlp_size**-0.5)
        layer = {"use_bias": self.use_bias, "dtype": self.dtype, "kernel_init": init}
        attention = partial(
            Attention,
            self.num_heads,
            self.head_dim,
            scale=1.0,
            dropout=self.dropout,
            attention=self.attention,
            output_init=init,
            **layer,
        )
        network = GatedFeedForward if self.gated else FeedForward
        norm = partial(RMSNorm, self.epsilon)
        make = partial(
            make_blocks,
            Block,
            scan_layers=self.scan_layers,
            remat=self.remat,
            norm=norm,
            feed_forward=partial(network, mlp_size, self.activation, output_init=out, **layer),
            dropout=self.dropout,
        )
        table = partial(nn.Embed, self.vocab_size, width, dtype=self.dtype)
        distances = partial(
            nn.Embed, self.num_buckets, self.num_heads, dtype=self.dtype, embedding_init=init
        )
        self.token_embedding = table(embedding_init=nn.initializers.normal(1.0))
        self.drop = nn.Dropout(self.dropout)
        self.encoder_distances = distances()
        self.decoder_distances = distances()
        self.encoder_blocks = make(self.encoder_layers, attention=attention)
        self.encoder_norm = norm()
        self.blocks = make(
            self.num_layers,
            attention=partial(attention, causal=True),
            cross_attention=partial(attention, cross=True),
        )
        self.final_norm = norm()
        if not self.tied_head:
            self.head = table(embedding_init=init)

    @property
    def cache_heads(self) -> tuple[int, int]:
        """Number of key heads, and the size of each."""
        return head_sizes(self.hidden_size, self.num_heads, head_dim=self.head_dim)

    @property
    def encoder_layers(self) -> int:
        """Number of layers of the encoder."""
        return self.num_encoder_layers or self.num_layers

    def encode(
        self,
        tokens: Int[Array, "b t"],
        mask: Bool[Array, "b t"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b t d"]:
        """Return the memory of a source, [b, t, d].

        mask: which tokens are real. None means all.
        train: whether dropout is on.
        """
        tokens = check_tokens(tokens, self.vocab_size, type(self).__name__)
        places = jnp.arange(tokens.shape[1])
        bias = self._bias(self.encoder_distances, places, places, causal=False)
        context = Context(mask=None if mask is None else mask[:, None], bias=bias)
        x = self.embed(tokens, places[None], train)
        x, _ = run_blocks(self.encoder_blocks, x, context, None, train)
        return self.drop(self.encoder_norm(x), deterministic=not train)

    def embed(
        self, tokens: Int[Array, "b t"], positions: Int[Array, "#b t"], train: bool
    ) -> Float[Array, "b t d"]:
        """Embed the token alone, since the scores have a bias for the distance."""
        return self.drop(self.token_embedding(tokens), deterministic=not train)

    def score_bias(
        self, length: int, slots: int, start: Int[Array, ""] | int
    ) -> Float[Array, "1 n t s"]:
        """Return a bias for the distance between a query's slot and a key's."""
        places = start + jnp.arange(length)
        return self._bias(self.decoder_distances, places, jnp.arange(slots), causal=True)

    def _bias(self, table, queries, keys, causal):
        distances = keys[None] - queries[:, None]
        buckets = relative_buckets(distances, self.num_buckets, self.max_distance, causal)
        return table(buckets).transpose(2, 0, 1)[None]

    def logits(self, hidden: Float[Array, "b t d"]) -> Float[Array, "b t vocab"]:
        """Return scores over the vocabulary."""
        if self.scale_logits:
            hidden = hidden / math.sqrt(self.hidden_size)
        return table_scores(self.head_table, hidden)


@dataclass(frozen=True)
class T5Preset:
    """Row of Raffel et al. 2020, section 3.7.

    num_layers: layers of each of both stacks.
    params: number of parameters.
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    head_dim: int
    mlp_size: int
    params: int
    vocab_size: int = 32_128


T5_PRESETS = {"base": T5Preset(12, 768, 12, 64, 3072, 222_903_552)}
