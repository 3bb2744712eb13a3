"""The Transformer of 2017: an encoder, and a decoder that reads its output."""

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
from genax.nn.attention import Attention
from genax.nn.block import Block, Context
from genax.nn.feed_forward import FeedForward
from genax.nn.layer_norm import LayerNorm
from genax.nn.sinusoids import sinusoids
from genax.nn.stack import make_blocks, run_blocks
from genax.transformer.decoder import Decoder, table_scores
from genax.transformer.token_range import check_tokens


class EncoderDecoder(Decoder):
    """Post-norm stacks, sinusoidal positions, one embedding: Vaswani et al. 2017, section 3.

    As a `Decoder`, it reads the target. `encode` makes the memory of the source.

    num_layers: layers of the decoder.
    num_heads: heads of the decoder.
    mlp_size: width of the decoder's feed-forward network. None means 4 * hidden_size.
    use_bias: biases in attention. The paper's published code has none.
    num_encoder_layers, num_encoder_heads, encoder_mlp_size: those of the encoder. None means as in
      the decoder.
    halves: see `sinusoids`.
    logits_bias: add a bias to each token's score, as Marian does.
    """

    num_encoder_layers: int | None = None
    num_encoder_heads: int | None = None
    encoder_mlp_size: int | None = None
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    halves: bool = False
    logits_bias: bool = False

    def setup(self):
        """Make the embedding and both stacks."""
        init = nn.initializers.normal(self.hidden_size**-0.5)
        dense = nn.initializers.xavier_uniform()
        layer = {"kernel_init": dense, "output_init": dense, "dtype": self.dtype}
        attention = partial(
            Attention,
            use_bias=self.use_bias,
            dropout=self.dropout,
            attention=self.attention,
            **layer,
        )
        feed_forward = partial(FeedForward, activation=self.activation, **layer)
        mlp_size = self.mlp_size or 4 * self.hidden_size
        make = partial(
            make_blocks,
            Block,
            scan_layers=self.scan_layers,
            remat=self.remat,
            norm=partial(LayerNorm, self.epsilon),
            post_norm=True,
            dropout=self.dropout,
        )
        self.token_embedding = nn.Embed(
            self.vocab_size, self.hidden_size, dtype=self.dtype, embedding_init=init
        )
        self.drop = nn.Dropout(self.dropout)
        self.encoder_blocks = make(
            self.encoder_layers,
            attention=partial(attention, self.num_encoder_heads or self.num_heads),
            feed_forward=partial(feed_forward, self.encoder_mlp_size or mlp_size),
        )
        self.blocks = make(
            self.num_layers,
            attention=partial(attention, self.num_heads, causal=True),
            cross_attention=partial(attention, self.num_heads, cross=True),
            feed_forward=partial(feed_forward, mlp_size),
        )
        self.final_norm = None
        if self.logits_bias:
            self.bias = self.param("logits_bias", nn.initializers.zeros, (self.vocab_size,))

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

        mask: which tokens are real. Shorter sources end in padding.
        train: whether dropout is on.
        Raises GenaxError for more tokens than the context holds.
        """
        if tokens.shape[1] > self.context:
            raise GenaxError(
                f"{type(self).__name__}: a source of {tokens.shape[1]} tokens exceeds the context "
                f"of {self.context}; shorten it or build the model with a larger context."
            )
        tokens = check_tokens(tokens, self.vocab_size, type(self).__name__)
        x = self.embed(tokens, jnp.arange(tokens.shape[1])[None], train)
        context = Context(mask=None if mask is None else mask[:, None])
        return run_blocks(self.encoder_blocks, x, context, None, train)[0]

    def embed(
        self, tokens: Int[Array, "b t"], positions: Int[Array, "#b t"], train: bool
    ) -> Float[Array, "b t d"]:
        """Return the token times sqrt(hidden_size), plus the sinusoids of its position."""
        table = jnp.asarray(sinusoids(self.context, self.hidden_size, self.halves), self.dtype)
        x = self.token_embedding(tokens) * math.sqrt(self.hidden_size) + table[positions]
        return self.drop(x, deterministic=not train)

    def logits(self, hidden: Float[Array, "b t d"]) -> Float[Array, "b t vocab"]:
        """Return scores over the vocabulary: products with the token embeddings, and their bias."""
        logits = table_scores(self.token_embedding, hidden)
        return logits + self.bias.astype(logits.dtype) if self.logits_bias else logits


@dataclass(frozen=True)
class EncoderDecoderPreset:
    """Row of Vaswani et al. 2017, table 3, with the vocabulary of section 5.1.

    params: number of parameters without biases in attention, as in the paper's published code.
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    mlp_size: int
    dropout: float
    steps: int
    params: int
    vocab_size: int = 37_000


ENCODER_DECODER_PRESETS = {
    "base": EncoderDecoderPreset(6, 512, 8, 2048, 0.1, 100_000, 63_045_632),
    "big": EncoderDecoderPreset(6, 1024, 16, 4096, 0.3, 300_000, 214_171_648),
}
