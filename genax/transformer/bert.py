"""BERT: the encoder, the heads of its pretraining, and those of its fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from genax.core.errors import GenaxError
from genax.nn.attention import Attention
from genax.nn.block import Block, Context
from genax.nn.feed_forward import FeedForward
from genax.nn.gelu import gelu
from genax.nn.layer_norm import LayerNorm
from genax.nn.projection import Projection
from genax.nn.stack import make_blocks, run_blocks
from genax.transformer.token_range import check_tokens


class BERT(nn.Module):
    """Post-norm encoder over token, segment and position embeddings: Devlin et al. 2018, section 3.

    context: number of learned positions.
    mlp_size: width of the feed-forward network. None means 4 * hidden_size.
    num_segments: number of segment embeddings.
    with_pooler: add a projection of the first token, for heads on whole sequences.
    scan_layers, remat, attention: see `Decoder`.
    """

    vocab_size: int
    context: int
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_size: int | None = None
    num_segments: int = 2
    with_pooler: bool = True
    dropout: float = 0.0
    epsilon: float = 1e-12
    init_scale: float = 0.02
    scan_layers: bool = False
    remat: str = "none"
    attention: str = "auto"
    dtype: Any = jnp.float32

    def setup(self):
        """Make the embeddings, blocks and pooler."""
        init = nn.initializers.normal(self.init_scale)
        layer = {"kernel_init": init, "dtype": self.dtype}
        blocks = layer | {"output_init": init}
        norm = partial(LayerNorm, self.epsilon)
        table = partial(nn.Embed, features=self.hidden_size, dtype=self.dtype, embedding_init=init)
        self.token_embedding = table(self.vocab_size)
        self.position_embedding = table(self.context)
        self.segment_embedding = table(self.num_segments)
        self.embedding_norm = norm()
        self.drop = nn.Dropout(self.dropout)
        self.blocks = make_blocks(
            Block,
            self.num_layers,
            self.scan_layers,
            self.remat,
            norm=norm,
            attention=partial(
                Attention,
                self.num_heads,
                dropout=self.dropout,
                attention=self.attention,
                **blocks,
            ),
            feed_forward=partial(
                FeedForward, self.mlp_size or 4 * self.hidden_size, gelu, **blocks
            ),
            post_norm=True,
            dropout=self.dropout,
        )
        if self.with_pooler:
            self.pooler = Projection((self.hidden_size,), **layer)

    def __call__(
        self,
        tokens: Int[Array, "b t"],
        mask: Bool[Array, "b t"] | None = None,
        segments: Int[Array, "b t"] | None = None,
        train: bool = False,
        positions: Int[Array, "#b t"] | None = None,
    ) -> Float[Array, "b t d"]:
        """Return the last hidden states.

        mask: which tokens are real. None means all.
        segments: int [b, t]. None means all 0.
        train: whether dropout is on.
        positions: None counts all tokens, padding too.
        Raises GenaxError for more tokens than there are positions.
        """
        length = tokens.shape[1]
        tokens = check_tokens(tokens, self.vocab_size, "BERT")
        if length > self.context:
            raise GenaxError(
                f"BERT: {length} tokens exceed its {self.context} positions; shorten the sequences."
            )
        segments = jnp.zeros_like(tokens) if segments is None else segments
        x = self.token_embedding(tokens) + self.segment_embedding(segments)
        positions = jnp.arange(length)[None] if positions is None else positions
        x = self.embedding_norm(x + self.position_embedding(positions))
        x = self.drop(x, deterministic=not train)
        context = Context(mask=None if mask is None else mask[:, None])
        return run_blocks(self.blocks, x, context, None, train)[0]

    def pool(self, hidden: Float[Array, "b t d"]) -> Float[Array, "b d"]:
        """Return tanh of a projection of the first token's hidden state.

        Raises GenaxError if the network has no pooler.
        """
        if not self.with_pooler:
            raise GenaxError("this BERT has no pooler; build it with with_pooler=True.")
        return jnp.tanh(self.pooler(hidden[:, 0]))


def encoder_parts(encoder: BERT) -> tuple[str, ...]:
    """Return patterns of the parameters that a task with this encoder takes from another one's.

    A pooler starts anew if only the task has one, and is left where it is if only the other has.
    """
    return ("encoder",) if encoder.with_pooler else ("encoder/*embedding*", "encoder/blocks*")


class MaskedLMHead(nn.Module):
    """Scores of the tokens at masked places: Devlin et al. 2018, appendix A.2 and published code.

    A projection, GELU and a norm, then products with the token embeddings plus a bias.
    """

    epsilon: float = 1e-12
    init_scale: float = 0.02
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "*b d"], table: Float[Array, "vocab d"]
    ) -> Float[Array, "*b vocab"]:
        """Return scores of the tokens.

        hidden: hidden states at the masked places.
        table: [vocab, d], the encoder's token embeddings.
        """
        init = nn.initializers.normal(self.init_scale)
        width = (hidden.shape[-1],)
        x = Projection(width, kernel_init=init, dtype=self.dtype, name="transform")(hidden)
        x = LayerNorm(self.epsilon, name="norm")(gelu(x))
        bias = self.param("bias", nn.initializers.zeros, (table.shape[0],))
        return x @ table.T.astype(x.dtype) + bias.astype(x.dtype)


class LinearHead(nn.Module):
    """Dropout and a projection: of pooled sequences to classes, of tokens to labels or spans."""

    num_labels: int
    dropout: float = 0.0
    init_scale: float = 0.02
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"], train: bool = False) -> Float[Array, "*b labels"]:
        """Return scores of the labels."""
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        init = nn.initializers.normal(self.init_scale)
        return Projection(
            (self.num_labels,), kernel_init=init, dtype=self.dtype, name="projection"
        )(x)


@dataclass(frozen=True)
class BERTPreset:
    """Row of Devlin et al. 2018, section 3.

    params: number of parameters of the encoder with its pooler.
    pretraining: number of parameters with both heads of pretraining.
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    params: int
    pretraining: int
    context: int = 512
    vocab_size: int = 30_522


# minilm has the sizes of all-MiniLM-L6-v2, distilled as in Wang et al. 2020 (arXiv:2002.10957).
BERT_PRESETS = {
    "base": BERTPreset(12, 768, 12, 109_482_240, 110_106_428),
    "large": BERTPreset(24, 1024, 16, 335_141_888, 336_226_108),
    "minilm": BERTPreset(6, 384, 12, 22_713_216, 22_893_116),
}
