"""The decoders of GPT-1, GPT-2 and GPT-3."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Int

from genax.nn.attention import Attention
from genax.nn.feed_forward import FeedForward
from genax.nn.gelu import gelu_tanh
from genax.nn.layer_norm import LayerNorm
from genax.nn.stack import make_blocks
from genax.transformer.block import Block
from genax.transformer.decoder import Decoder


class GPT(Decoder):
    """GPT-2's decoder: Radford et al. 2019, section 2.3; GPT-3's, but for its sparse attention.

    Pre-norm blocks, a final norm, learned positions, and the token embedding as the head. GPT-3
    (Brown et al. 2020, section 2.1) alternates dense with locally banded sparse attention, whose
    bands it does not publish; here all layers are dense, with the same parameters.

    post_norm: GPT-1's (Radford et al. 2018, section 4.1): norms after the sums, none at the end,
    and initial weights that do not shrink with depth. mlp_size: None is 4 * hidden_size.
    """

    post_norm: bool = False
    activation: Callable[[jax.Array], jax.Array] = gelu_tanh

    def setup(self):
        """Embeddings, blocks and the final norm."""
        init = nn.initializers.normal(self.init_scale)
        residual_scale = 1.0 if self.post_norm else 1 / math.sqrt(2 * self.num_layers)
        layer = {
            "use_bias": self.use_bias,
            "kernel_init": init,
            "output_init": nn.initializers.normal(self.init_scale * residual_scale),
            "dtype": self.dtype,
        }
        norm = partial(LayerNorm, self.epsilon, self.use_bias)
        table = partial(nn.Embed, features=self.hidden_size, dtype=self.dtype, embedding_init=init)
        self.token_embedding = table(self.vocab_size)
        self.position_embedding = table(self.context)
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
                causal=True,
                dropout=self.dropout,
                attention=self.attention,
                **layer,
            ),
            feed_forward=partial(
                FeedForward, self.mlp_size or 4 * self.hidden_size, self.activation, **layer
            ),
            post_norm=self.post_norm,
            dropout=self.dropout,
        )
        self.final_norm = None if self.post_norm else norm()
        if not self.tied_head:
            self.head = table(self.vocab_size)

    def embed(
        self, tokens: Int[Array, "b t"], positions: Int[Array, "#b t"], train: bool
    ) -> Float[Array, "b t d"]:
        """Token plus learned position."""
        x = self.token_embedding(tokens) + self.position_embedding(positions)
        return self.drop(x, deterministic=not train)
