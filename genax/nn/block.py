"""The Transformer block."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from genax.core.mesh import split_tokens
from genax.nn.attention import Attention
from genax.nn.kv_cache import BlockCache
from genax.nn.rotary import Rotation


@struct.dataclass
class Context:
    """Input that all blocks of a stack read besides x.

    mask: which keys each query may attend to.
    bias: added to the scores of self-attention.
    rotation: rotation of queries and keys.
    memory: [b, m, e], read by cross-attention. None means the memory that the cache holds.
    memory_mask: [b, 1, m], which positions of the memory are real.
    start: slot of the cache at which x begins.
    """

    mask: Bool[Array, "b #t s"] | None = None
    bias: Float[Array, "#b n #t s"] | None = None
    rotation: Rotation | None = None
    memory: Float[Array, "b m e"] | None = None
    memory_mask: Bool[Array, "b 1 m"] | None = None
    start: Int[Array, ""] | int = 0


def inverse_layer_scales(num_layers: int) -> Float[Array, " layers"]:
    """Return 1 / i for the queries of layer i, counted from 1.

    Karamcheti et al. 2021 (Mistral) scale GPT-2's scores so, against overflow in float16.
    """
    return 1 / jnp.arange(1, num_layers + 1, dtype=jnp.float32)


class Block(nn.Module):
    """Self-attention, cross-attention if there is one, feed-forward: Vaswani et al. 2017, fig. 1.

    Each part is added to its input. The parts are given as constructors, called with a name.

    norm: applied before each part (Radford et al. 2019, section 2.3).
    attention: self-attention.
    feed_forward: the position-wise network.
    cross_attention: None means no cross-attention.
    post_norm: apply the norm after each sum instead.
    dropout: rate of dropout on each part's output.
    """

    norm: Callable[..., nn.Module]
    attention: Callable[..., Attention]
    feed_forward: Callable[..., nn.Module]
    cross_attention: Callable[..., Attention] | None = None
    post_norm: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        cache: BlockCache | None,
        context: Context,
        train: bool,
        query_scale: Float[Array, ""] | None = None,
    ) -> tuple[Float[Array, "b t d"], BlockCache | None]:
        """Return the new values of x, and the cache with the keys and values of x.

        query_scale: factor of the queries of self-attention.
        """
        x = split_tokens(x)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        own, memory = (None, None) if cache is None else (cache.own, cache.memory)

        name = "attention"
        y = self._before(name, x)
        y, own = self.attention(name=name)(
            y,
            mask=context.mask,
            bias=context.bias,
            rotation=context.rotation,
            cache=own,
            start=context.start,
            train=train,
            query_scale=query_scale,
        )
        x = self._after(name, x + drop(y))

        if self.cross_attention is not None:
            name = "cross_attention"
            y = self._before(name, x)
            y, memory = self.cross_attention(name=name)(
                y, memory=context.memory, mask=context.memory_mask, cache=memory, train=train
            )
            x = self._after(name, x + drop(y))

        name = "feed_forward"
        x = self._after(name, x + drop(self.feed_forward(name=name)(self._before(name, x))))
        return x, None if own is None else BlockCache(own, memory)

    def _before(self, name: str, x: Array) -> Array:
        return x if self.post_norm else self.norm(name=f"{name}_norm")(x)

    def _after(self, name: str, x: Array) -> Array:
        return self.norm(name=f"{name}_norm")(x) if self.post_norm else x
