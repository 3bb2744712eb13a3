"""Multi-head attention: self or cross, causal or masked, with grouped heads and a cache."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.nn.initializers import Initializer
from jaxtyping import Array, Bool, Float, Int, Key

from genax.core.errors import GenaxError
from genax.nn.causal_attention import causal_attention
from genax.nn.kv_cache import LayerCache
from genax.nn.projection import Projection

IMPLEMENTATIONS = ("auto", "xla", "blocks", "cudnn")


def attend(
    query: Float[Array, "b t n h"],
    key: Float[Array, "b s k h"],
    value: Float[Array, "b s k h"],
    mask: Bool[Array, "b #t s"] | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    rng: Key[Array, ""] | None = None,
    implementation: str = "auto",
) -> Float[Array, "b t n h"]:
    """softmax(query key^T / sqrt(h)) value for each head: Vaswani et al. 2017, eq. 1.

    mask: which keys a query may attend to; [b, 1, s] for padding. causal: none after its own
      position, with t = s. k divides n: a key head serves n / k query heads (Ainslie et al. 2023).
    dropout: rate on the probabilities, drawn from rng.
    implementation: "cudnn" (fused, NVIDIA), "blocks" (`causal_attention`), "xla", or "auto": the
      fused one on a GPU and "blocks" on a CPU where they cover the case, else "xla".

    The softmax is float32 whatever the type of the arguments. Raises GenaxError for an unknown
    implementation, or for "blocks" where the case is not plain causal self-attention.
    """
    if implementation not in IMPLEMENTATIONS:
        raise GenaxError(
            f"attention implementation {implementation!r} is unknown; choose one of "
            f"{', '.join(IMPLEMENTATIONS)}."
        )
    plain = causal and mask is None and dropout == 0.0 and query.shape == key.shape
    if implementation == "auto":
        implementation = _best(query, key, dropout, plain)
    if implementation == "blocks":
        if not plain:
            raise GenaxError(
                'attention "blocks" is causal self-attention with as many key heads as query heads '
                'and without mask and dropout; choose "auto" or "xla".'
            )
        return causal_attention(query, key, value)
    if implementation == "cudnn":
        return jax.nn.dot_product_attention(
            query,
            key,
            value,
            mask=None if mask is None else mask[:, None],
            is_causal=causal,
            implementation="cudnn",
        )
    return _attend(query, key, value, mask, causal, dropout, rng)


def _best(query: jax.Array, key: jax.Array, dropout: float, plain: bool) -> str:
    if jax.default_backend() == "gpu" and _cudnn_covers(query, key, dropout):
        return "cudnn"
    return "blocks" if jax.default_backend() == "cpu" and plain else "xla"


def _cudnn_covers(query: jax.Array, key: jax.Array, dropout: float) -> bool:
    return (
        query.dtype in (jnp.bfloat16, jnp.float16)
        and dropout == 0.0
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 128
        and query.shape[1] % 2 == key.shape[1] % 2 == 0
    )


def _attend(query, key, value, mask, causal, dropout, rng):
    b, t, n, h = query.shape
    s, k = key.shape[1:3]
    query = (query * (1 / math.sqrt(h))).reshape(b, t, k, n // k, h)
    scores = jnp.einsum("btkgh,bskh->bkgts", query, key, preferred_element_type=jnp.float32)
    lowest = jnp.finfo(jnp.float32).min
    if causal:
        scores = jnp.where(jnp.arange(t)[:, None] >= jnp.arange(s), scores, lowest)
    if mask is not None:
        scores = jnp.where(mask[:, None, None], scores, lowest)
    probabilities = jax.nn.softmax(scores, axis=-1)
    if dropout:
        keep = jax.random.bernoulli(rng, 1 - dropout, probabilities.shape)
        probabilities = jnp.where(keep, probabilities / (1 - dropout), 0)
    values = jnp.einsum("bkgts,bskh->btkgh", probabilities.astype(value.dtype), value)
    return values.reshape(b, t, n, h)


@jax.custom_vjp
def unstack(x: Float[Array, "b t c n h"]) -> tuple[Float[Array, "b t n h"], ...]:
    """The c parts of a projection."""
    return tuple(x[:, :, part] for part in range(x.shape[2]))


def _stack(_, parts):
    # By hand, since the transpose of a slice is padded with zeros and the parts are then added up.
    # XLA copies rows fast on a CPU unless the concatenation is merged into what reads it.
    b, t, n, h = parts[0].shape
    rows = jnp.concatenate([part.reshape(b * t, n * h) for part in parts], axis=1)
    return (lax.optimization_barrier(rows).reshape(b, t, len(parts), n, h),)


unstack.defvjp(lambda x: (unstack(x), None), _stack)


class Attention(nn.Module):
    """Multi-head attention with its projections: Vaswani et al. 2017, section 3.2.2.

    head_dim: None is the width divided by num_heads. num_kv_heads: None is num_heads.
    Self-attention with as many key as query heads has one projection "qkv" [d, 3, n, h]; otherwise
    there are "query" [d, n, h] and "key_value" [d, 2, k, h].
    """

    num_heads: int
    head_dim: int | None = None
    num_kv_heads: int | None = None
    causal: bool = False
    use_bias: bool = True
    dropout: float = 0.0
    kernel_init: Initializer = nn.initializers.lecun_normal()
    output_init: Initializer = nn.initializers.lecun_normal()
    implementation: str = "auto"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        memory: Float[Array, "b s m"] | None = None,
        mask: Bool[Array, "b #t s"] | None = None,
        cache: LayerCache | None = None,
        start: Int[Array, ""] | int = 0,
        train: bool = False,
    ) -> tuple[Float[Array, "b t d"], LayerCache | None]:
        """Attend from x to memory, to x itself (memory=None), or to a cache.

        cache, start: keys and values of x are written to the slots from `start` on, and x attends
        to all slots that `mask` [b, t, slots] allows; causality is then the mask's business.
        Returns the new values of x and the cache.
        Raises GenaxError where the heads do not divide the width or each other.
        """
        width = x.shape[-1]
        head_dim, kv_heads = self._heads(width)

        def project(features, name, init=self.kernel_init, num_in=1):
            return Projection(features, num_in, self.use_bias, init, self.dtype, name=name)

        if memory is None and kv_heads == self.num_heads:
            qkv = project((3, self.num_heads, head_dim), "qkv")(x)
            query, key, value = unstack(qkv)
        else:
            query = project((self.num_heads, head_dim), "query")(x)
            key_value = project((2, kv_heads, head_dim), "key_value")(
                x if memory is None else memory
            )
            key, value = unstack(key_value)
        if cache is not None:
            cache = cache.write(key, value, start)
            key, value = cache.key.astype(query.dtype), cache.value.astype(query.dtype)
        dropout = self.dropout if train else 0.0
        y = attend(
            query,
            key,
            value,
            mask,
            self.causal and cache is None,
            dropout,
            self.make_rng("dropout") if dropout else None,
            self.implementation,
        )
        return project((width,), "output", self.output_init, 2)(y), cache

    def _heads(self, width: int) -> tuple[int, int]:
        kv_heads = self.num_kv_heads or self.num_heads
        if (self.head_dim is None and width % self.num_heads) or self.num_heads % kv_heads:
            raise GenaxError(
                f"Attention: width {width}, {self.num_heads} heads and {kv_heads} key heads do not "
                "divide; choose num_heads among the divisors of the width (or set head_dim) and "
                "num_kv_heads among the divisors of num_heads."
            )
        return self.head_dim or width // self.num_heads, kv_heads
