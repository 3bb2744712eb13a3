"""The decoders of GPT-1, GPT-2 and GPT-3."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Int

from genax.nn.attention import Attention
from genax.nn.block import Block, inverse_layer_scales
from genax.nn.feed_forward import FeedForward
from genax.nn.gelu import gelu_tanh
from genax.nn.layer_norm import LayerNorm
from genax.nn.stack import make_blocks
from genax.transformer.decoder import Decoder


class GPT(Decoder):
    """Decoder of GPT-2 (Radford et al. 2019, section 2.3), and of GPT-3 with dense attention.

    Pre-norm blocks, a final norm, learned positions, and the token embedding as the head. GPT-3
    (Brown et al. 2020, section 2.1) alternates dense with locally banded sparse attention, whose
    bands it does not publish. Here all layers are dense, with the same parameters.

    mlp_size: width of the feed-forward network. None means 4 * hidden_size.
    post_norm: build GPT-1's decoder (Radford et al. 2018, section 4.1): norms after the sums, none
      at the end, and initial weights that do not shrink with depth.
    inverse_layer_scaling: see `inverse_layer_scales`.
    """

    post_norm: bool = False
    activation: Callable[[jax.Array], jax.Array] = gelu_tanh
    inverse_layer_scaling: bool = False

    def setup(self):
        """Make the embeddings, blocks and final norm."""
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
            per_layer=self.inverse_layer_scaling,
        )
        self.final_norm = None if self.post_norm else norm()
        if not self.tied_head:
            self.head = table(self.vocab_size)

    @property
    def query_scales(self) -> Float[Array, " layers"] | None:
        """The factor of the queries in each layer, if there is one."""
        return inverse_layer_scales(self.num_layers) if self.inverse_layer_scaling else None

    def embed(
        self, tokens: Int[Array, "b t"], positions: Int[Array, "#b t"], train: bool
    ) -> Float[Array, "b t d"]:
        """Return token plus learned position."""
        x = self.token_embedding(tokens) + self.position_embedding(positions)
        return self.drop(x, deterministic=not train)


@dataclass(frozen=True)
class GPTPreset:
    """Row of a paper's table of models.

    batch_tokens: tokens per batch.
    learning_rate: peak learning rate. None means not published.
    params: number of parameters, tied head and learned positions counted once.
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    context: int
    batch_tokens: int
    learning_rate: float | None
    params: int
    vocab_size: int = 50257


# GPT-2: Radford et al. 2019, table 2 and section 2.3 (batch of 512 x 1024 tokens; learning rates
# were tuned by hand and are not given). The paper's parameter counts (117M, 345M, 762M, 1542M) are
# too low. OpenAI's release notes correct them (124M, 355M, 774M, 1558M).
# GPT-3: Brown et al. 2020, table 2.1. Two of its rows contradict themselves. XL prints 24 heads of
# 128 at width 2048 (here 16 heads, n_heads * d_head = d_model). 13B prints width 5140, which 40
# heads of 128 do not give (here 5120, whose count is that of the paper's appendix D). Batches are
# powers of two for tokens of "0.5M" to "2M", and 1,536 sequences of 2,048 tokens for "3.2M".
# GPT-1: Radford et al. 2018, section 4.1 (batch of 64 x 512 tokens, 40,000 merges). The published
# weights have 40,478 tokens.
GPT_PRESETS = {
    "gpt1": GPTPreset(12, 768, 12, 512, 2**15, 2.5e-4, 116_534_784, 40478),
    "gpt2": GPTPreset(12, 768, 12, 1024, 2**19, None, 124_439_808),
    "gpt2-medium": GPTPreset(24, 1024, 16, 1024, 2**19, None, 354_823_168),
    "gpt2-large": GPTPreset(36, 1280, 20, 1024, 2**19, None, 774_030_080),
    "gpt2-xl": GPTPreset(48, 1600, 25, 1024, 2**19, None, 1_557_611_200),
    "gpt3-small": GPTPreset(12, 768, 12, 2048, 2**19, 6.0e-4, 125_226_240),
    "gpt3-medium": GPTPreset(24, 1024, 16, 2048, 2**19, 3.0e-4, 355_871_744),
    "gpt3-large": GPTPreset(24, 1536, 16, 2048, 2**19, 2.5e-4, 760_300_032),
    "gpt3-xl": GPTPreset(24, 2048, 16, 2048, 2**20, 2.0e-4, 1_315_723_264),
    "gpt3-2.7b": GPTPreset(32, 2560, 32, 2048, 2**20, 1.6e-4, 2_651_553_280),
    "gpt3-6.7b": GPTPreset(32, 4096, 32, 2048, 2**21, 1.2e-4, 6_658_404_352),
    "gpt3-13b": GPTPreset(40, 5120, 40, 2048, 2**21, 1.0e-4, 12_853_386_240),
    "gpt3-175b": GPTPreset(96, 12288, 96, 2048, 1536 * 2048, 0.6e-4, 174_604_259_328),
}
