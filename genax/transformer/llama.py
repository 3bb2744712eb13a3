"""The decoder of LLaMA."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial

import flax.linen as nn
from jaxtyping import Array, Float, Int

from genax.core.errors import GenaxError
from genax.nn.attention import Attention, head_sizes
from genax.nn.block import Block
from genax.nn.gated_feed_forward import GatedFeedForward
from genax.nn.rms_norm import RMSNorm
from genax.nn.rotary import LongContext, Rotation, rotary_frequencies, rotation
from genax.nn.stack import make_blocks
from genax.transformer.decoder import Decoder


class LLaMA(Decoder):
    """Pre-norm blocks with RMSNorm, rotary positions, SwiGLU and grouped key heads.

    Touvron et al. 2023, section 2.2; Grattafiori et al. 2024 (Llama 3), section 3.2. Neither has
    biases.

    mlp_size: width of the feed-forward network. None means 8/3 * hidden_size, rounded up to a
      multiple of 256.
    num_kv_heads: number of key heads. None means num_heads.
    head_dim: size of a head. None means hidden_size / num_heads.
    theta: base of the rotary frequencies.
    scaling: stretching of the rotary frequencies. None means none.
    """

    use_bias: bool = False
    tied_head: bool = False
    num_kv_heads: int | None = None
    head_dim: int | None = None
    theta: float = 500_000.0
    scaling: LongContext | None = None

    def setup(self):
        """Make the embedding, blocks, final norm and head."""
        init = nn.initializers.normal(self.init_scale)
        layer = {
            "use_bias": self.use_bias,
            "kernel_init": init,
            "output_init": init,
            "dtype": self.dtype,
        }
        norm = partial(RMSNorm, self.epsilon)
        table = partial(
            nn.Embed, self.vocab_size, self.hidden_size, dtype=self.dtype, embedding_init=init
        )
        self.token_embedding = table()
        self.blocks = make_blocks(
            Block,
            self.num_layers,
            self.scan_layers,
            self.remat,
            norm=norm,
            attention=partial(
                Attention,
                self.num_heads,
                self.head_dim,
                self.num_kv_heads,
                causal=True,
                dropout=self.dropout,
                attention=self.attention,
                **layer,
            ),
            feed_forward=partial(GatedFeedForward, self.inner_size, **layer),
            dropout=self.dropout,
        )
        self.final_norm = norm()
        if not self.tied_head:
            self.head = table()

    @property
    def cache_heads(self) -> tuple[int, int]:
        """Number of key heads, and the size of each.

        Raises GenaxError for an odd size.
        """
        heads, size = head_sizes(self.hidden_size, self.num_heads, self.num_kv_heads, self.head_dim)
        if size % 2:
            raise GenaxError(
                f"LLaMA: {self.num_heads} heads of {size} at width {self.hidden_size} are odd, but "
                "rotary positions turn pairs; choose hidden_size, num_heads or head_dim for an "
                "even size."
            )
        return heads, size

    @property
    def inner_size(self) -> int:
        """Width of the feed-forward network."""
        return self.mlp_size or -(-8 * self.hidden_size // 768) * 256

    def embed(
        self, tokens: Int[Array, "b t"], positions: Int[Array, "#b t"], train: bool
    ) -> Float[Array, "b t d"]:
        """Embed the token alone, since blocks rotate queries and keys by the position."""
        return self.token_embedding(tokens)

    def rotation(self, positions: Int[Array, "#b t"]) -> Rotation:
        """Return the rotation of queries and keys.

        Raises GenaxError for a theta that has no powers.
        """
        if not 0 < self.theta < math.inf:
            raise GenaxError(f"LLaMA: theta={self.theta} has to be a finite number above 0.")
        frequencies = rotary_frequencies(self.cache_heads[1], self.theta, self.scaling)
        return rotation(positions, frequencies)


def long_context(numbers: Sequence[float | int]) -> LongContext | None:
    """Return the stretching of the numbers that `LongContext` has, in its order, or None of none.

    Raises GenaxError for another count.
    """
    if len(numbers) not in (0, 4):
        raise GenaxError(
            f"long_context={tuple(numbers)} are {len(numbers)} numbers; give a factor, a low and a "
            "high factor and the original context, or none: ()."
        )
    if not numbers:
        return None
    growth, low, high, original = numbers
    return LongContext(float(growth), float(low), float(high), int(original))


@dataclass(frozen=True)
class LLaMAPreset:
    """Row of Grattafiori et al. 2024, table 3, with the context and rotary base of section 3.2.

    mlp_size: "FFN Dimension" of table 3.
    learning_rate: peak learning rate.
    params: number of parameters, head and embedding both counted.
    long_context: how the frequencies are stretched, as from Llama 3.1 on: see `long_context`.
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    mlp_size: int
    learning_rate: float
    params: int
    context: int = 8192
    vocab_size: int = 128_256
    theta: float = 500_000.0
    long_context: tuple[float | int, ...] = ()


_8B = LLaMAPreset(32, 4096, 32, 8, 14_336, 3e-4, 8_030_261_248)
_70B = LLaMAPreset(80, 8192, 64, 8, 28_672, 1.5e-4, 70_553_706_496)
LLAMA_PRESETS = {
    "llama3-8b": _8B,
    "llama3-70b": _70B,
    "llama3.1-8b": replace(_8B, context=131_072, long_context=astuple(LongContext())),
    "llama3.1-70b": replace(_70B, context=131_072, long_context=astuple(LongContext())),
}
