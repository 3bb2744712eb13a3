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
from genax.core.mesh import platform, traced_mesh
from genax.nn.causal_attention import causal_attention
from genax.nn.derivatives import set_reverse_rule
from genax.nn.kv_cache import LayerCache
from genax.nn.projection import Projection
from genax.nn.ring import ring_attention
from genax.nn.rotary import Rotation, rotate
from genax.nn.splash import splash_attention, splash_covers

IMPLEMENTATIONS = ("auto", "xla", "blocks", "cudnn", "splash", "ring")


def attend(
    query: Float[Array, "b t n h"],
    key: Float[Array, "b s k h"],
    value: Float[Array, "b s k h"],
    mask: Bool[Array, "b #t s"] | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    rng: Key[Array, ""] | None = None,
    attention: str = "auto",
    bias: Float[Array, "#b n #t s"] | None = None,
    window: int | None = None,
    scale: float | None = None,
) -> Float[Array, "b t n h"]:
    """Return softmax(query key^T / sqrt(h)) value for each head: Vaswani et al. 2017, eq. 1.

    query: [b, t, n, h].
    key, value: [b, s, k, h]. k divides n: each key head serves n / k query heads (Ainslie et al.
      2023).
    mask: which keys each query may attend to. [b, 1, s] masks padding.
    causal: hide the keys after a query's own position. This needs t = s.
    dropout: rate of dropout on the probabilities, drawn from rng.
    attention: "cudnn" (fused, NVIDIA), "splash" (fused, TPU: see `splash_attention`), "ring"
      (tokens split over devices: see `ring_attention`), "blocks" (`causal_attention`), "xla" or
      "auto". "auto" is "ring" if the mesh splits tokens, otherwise the fused implementation on a
      GPU or TPU and "blocks" on a CPU. If that implementation does not cover the case, "auto" is
      "xla".
    bias: [b or 1, n, t or 1, s], added to the scores.
    window: number of positions that a causal query attends to, its own the last (Beltagy et al.
      2020, section 3.1).
    scale: factor of the scores in place of 1 / sqrt(h).

    The softmax is float32 for every dtype of the arguments.
    Raises GenaxError for an unknown implementation, for a window without causality, and if the
    implementation does not cover the case.
    """
    if attention not in IMPLEMENTATIONS:
        raise GenaxError(
            f"attention implementation {attention!r} is unknown; choose one of "
            f"{', '.join(IMPLEMENTATIONS)}."
        )
    if window is not None and not causal:
        raise GenaxError(f"window={window} counts earlier positions; set causal=True with it.")
    plain = (
        causal
        and mask is bias is window is scale is None
        and dropout == 0.0
        and query.shape == key.shape
    )
    padded = bias is None and dropout == 0.0 and (mask is None or mask.shape[1] == 1)
    if attention == "auto":
        attention = _best(query, key, dropout, plain, padded)
    if attention == "blocks":
        if not plain:
            raise GenaxError(
                'attention "blocks" covers causal self-attention with as many key heads as query '
                'heads, without mask, bias, window and dropout; choose "auto" or "xla".'
            )
        return causal_attention(query, key, value)
    if attention in ("splash", "ring"):
        if not padded:
            raise GenaxError(
                f'attention "{attention}" masks padding only: it covers no packed sequences, '
                'bias or dropout; choose "auto" or "xla".'
            )
        function = splash_attention if attention == "splash" else ring_attention
        return function(query, key, value, mask, causal, window, scale)
    if attention == "cudnn":
        if dropout:
            raise GenaxError('attention "cudnn" has no dropout; choose "auto" or "xla".')
        return jax.nn.dot_product_attention(
            query,
            key,
            value,
            bias,
            None if mask is None else mask[:, None],
            scale=scale,
            is_causal=causal,
            local_window_size=None if window is None else (window - 1, 0),
            implementation="cudnn",
        )
    scores = _scores(query, key, scale)
    if bias is not None:
        scores = scores + bias.reshape(bias.shape[0], *scores.shape[1:3], *bias.shape[2:])
    return _weigh(_masked(scores, mask, causal, window), value, dropout, rng)


def _best(query: jax.Array, key: jax.Array, dropout: float, plain: bool, padded: bool) -> str:
    mesh = traced_mesh()
    if mesh is not None and mesh.shape["sequence"] > 1:
        same = query.shape[1] == key.shape[1]
        covered = padded and same and query.shape[1] % mesh.shape["sequence"] == 0
        return "ring" if covered else "xla"
    if platform() == "tpu" and padded and splash_covers(query, key):
        return "splash"
    if platform() == "gpu" and _cudnn_covers(query, key, dropout):
        return "cudnn"
    return "blocks" if platform() == "cpu" and plain else "xla"


def _cudnn_covers(query: jax.Array, key: jax.Array, dropout: float) -> bool:
    return (
        query.dtype in (jnp.bfloat16, jnp.float16)
        and dropout == 0.0
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 128
        and query.shape[1] % 2 == key.shape[1] % 2 == 0
    )


def _scores(query, key, scale):
    """Return the float32 scores [b, k, n / k, t, s]."""
    b, t, n, h = query.shape
    k = key.shape[2]
    query = (query * (1 / math.sqrt(h) if scale is None else scale)).reshape(b, t, k, n // k, h)
    return jnp.einsum("btkgh,bskh->bkgts", query, key, preferred_element_type=jnp.float32)


def _masked(scores, mask, causal, window):
    lowest = jnp.finfo(jnp.float32).min
    if causal:
        distance = jnp.arange(scores.shape[-2])[:, None] - jnp.arange(scores.shape[-1])
        seen = distance >= 0 if window is None else (distance >= 0) & (distance < window)
        scores = jnp.where(seen, scores, lowest)
    return scores if mask is None else jnp.where(mask[:, None, None], scores, lowest)


def _weigh(scores, value, dropout, rng):
    probabilities = jax.nn.softmax(scores, axis=-1)
    if dropout:
        keep = jax.random.bernoulli(rng, 1 - dropout, probabilities.shape)
        # At a rate of 1 all probabilities are dropped. Their gradient is then 0 instead of 0 / 0.
        share = max(1 - dropout, float(jnp.finfo(jnp.float32).tiny))
        probabilities = jnp.where(keep, probabilities / share, 0)
    values = jnp.einsum("bkgts,bskh->btkgh", probabilities.astype(value.dtype), value)
    return values.reshape(*values.shape[:2], -1, values.shape[-1])


def attend_once(
    query: Float[Array, "b 1 n h"],
    cache: LayerCache,
    mask: Bool[Array, "b 1 s"] | None = None,
    bias: Float[Array, "#b n 1 s"] | None = None,
    scale: float | None = None,
) -> Float[Array, "b 1 n h"]:
    """Compute `attend` for one query per sequence, with keys and values as the cache has them."""
    b, _, n, h = query.shape
    key, value = cache.key.astype(query.dtype), cache.value.astype(query.dtype)
    heads = len(key) // b
    query = (query * (1 / math.sqrt(h) if scale is None else scale)).reshape(len(key), -1, h)
    scores = jnp.einsum("xgh,xsh->xgs", query, key, preferred_element_type=jnp.float32)
    scores = scores.reshape(b, heads, n // heads, 1, -1)
    if bias is not None:
        scores = scores + bias.reshape(bias.shape[0], *scores.shape[1:3], *bias.shape[2:])
    probabilities = jax.nn.softmax(_masked(scores, mask, False, None), axis=-1)
    probabilities = probabilities.reshape(len(key), n // heads, -1).astype(value.dtype)
    return jnp.einsum("xgs,xsh->xgh", probabilities, value).reshape(b, 1, n, h)


def latest(mask: Bool[Array, "b t s"], window: int) -> Bool[Array, "b t s"]:
    """Restrict a mask to the last `window` keys that each query may attend to."""
    after = jnp.cumsum(mask[..., ::-1], axis=-1)[..., ::-1]
    return mask & (after <= window)


@jax.custom_jvp
def unstack(x: Float[Array, "b t c n h"]) -> tuple[Float[Array, "b t n h"], ...]:
    """Split a projection into its c parts."""
    return tuple(x[:, :, part] for part in range(x.shape[2]))


def _stack(_, parts):
    # JAX's transpose of a slice pads with zeros and then adds the parts up.
    if traced_mesh() is not None:
        # Merged axes cannot stay split over the mesh.
        return (jnp.stack(parts, axis=2),)
    # On a CPU XLA copies rows fast unless it merges the concatenation into its reader.
    b, t, n, h = parts[0].shape
    rows = jnp.concatenate([part.reshape(b * t, n * h) for part in parts], axis=1)
    return (lax.optimization_barrier(rows).reshape(b, t, len(parts), n, h),)


set_reverse_rule(unstack, lambda x: (unstack(x), None), _stack)


def head_sizes(
    width: int,
    num_heads: int,
    num_kv_heads: int | None = None,
    head_dim: int | None = None,
) -> tuple[int, int]:
    """Return the number of key heads and the size of every head.

    width: width of the input of attention.
    num_heads: number of query heads.
    num_kv_heads: number of key heads. None means num_heads.
    head_dim: size of a head. None means width / num_heads.
    Raises GenaxError for sizes below 1, and for heads that do not divide the width or each other.
    """
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    sizes = (width, num_heads, kv_heads, 1 if head_dim is None else head_dim)
    if min(sizes) < 1:
        raise GenaxError(
            f"Attention: width={width}, num_heads={num_heads}, num_kv_heads={kv_heads}, "
            f"head_dim={head_dim}: each has to be 1 or more."
        )
    if (head_dim is None and width % num_heads) or num_heads % kv_heads:
        raise GenaxError(
            f"Attention: width {width}, {num_heads} heads and {kv_heads} key heads do not "
            "divide each other; choose num_heads among the divisors of the width (or set "
            "head_dim) and num_kv_heads among the divisors of num_heads."
        )
    return kv_heads, width // num_heads if head_dim is None else head_dim


class Attention(nn.Module):
    """Multi-head attention with its projections: Vaswani et al. 2017, section 3.2.2.

    Self-attention with as many key heads as query heads has one projection "qkv" [d, 3, n, h].
    Otherwise there are two, "query" [d, n, h] and "key_value" [d, 2, k, h].

    num_heads: number of query heads.
    head_dim: size of a head. None means the width divided by num_heads.
    num_kv_heads: number of key heads. None means num_heads.
    causal: hide the keys after a query's own position.
    cross: take keys and values from a memory.
    window, scale, attention: see `attend`.
    dropout: rate of dropout on the probabilities.
    output_bias: whether the output's projection has a bias. None means use_bias.
    """

    num_heads: int
    head_dim: int | None = None
    num_kv_heads: int | None = None
    causal: bool = False
    cross: bool = False
    window: int | None = None
    scale: float | None = None
    use_bias: bool = True
    dropout: float = 0.0
    kernel_init: Initializer = nn.initializers.lecun_normal()
    output_init: Initializer = nn.initializers.lecun_normal()
    attention: str = "auto"
    dtype: Any = jnp.float32
    output_bias: bool | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        memory: Float[Array, "b s m"] | None = None,
        mask: Bool[Array, "b #t s"] | None = None,
        bias: Float[Array, "#b n #t s"] | None = None,
        rotation: Rotation | None = None,
        cache: LayerCache | None = None,
        start: Int[Array, ""] | int = 0,
        train: bool = False,
        query_scale: Float[Array, ""] | None = None,
    ) -> tuple[Float[Array, "b t d"], LayerCache | None]:
        """Attend from x to x itself or, with cross, to the memory.

        memory: [b, s, m], read by cross-attention. None means the memory that the cache holds.
        mask: which keys each query may attend to. With a cache it is [b, t, slots] and also carries
          the causality.
        bias: added to the scores, see `attend`.
        rotation: rotation of queries and keys, see `genax.nn.rotary`.
        query_scale: factor of the queries besides `scale`, such as one that differs by layer.
        cache: cache to which the keys and values of x are written. x attends to all its slots that
          `mask` allows.
        start: slot of the cache at which x begins.
        train: whether dropout is on.
        Returns the new values of x and the cache. The cache of cross-attention holds its memory.
        Raises GenaxError for sizes that `head_sizes` refuses, for a window below 1, for a window
        without causality (it would have no effect), and for cross-attention without a memory to
        read.
        """
        if self.window is not None and (self.cross or not self.causal or self.window < 1):
            raise GenaxError(
                f"Attention: window={self.window} must be at least 1, and needs causal "
                "self-attention; change it or leave it out."
            )
        if self.cross and memory is None and cache is None:
            raise GenaxError(
                "Attention: cross-attention needs a memory, or a cache that holds one."
            )
        width = x.shape[-1]
        kv_heads, head_dim = head_sizes(width, self.num_heads, self.num_kv_heads, self.head_dim)

        def project(features, name, init=self.kernel_init, num_in=1):
            bias = self.output_bias if name == "output" else None
            bias = self.use_bias if bias is None else bias
            return Projection(features, num_in, bias, init, self.dtype, name=name)

        key: Any = None
        value: Any = None
        if not self.cross and kv_heads == self.num_heads:
            qkv = project((3, self.num_heads, head_dim), "qkv")(x)
            query, key, value = unstack(qkv)
        else:
            query = project((self.num_heads, head_dim), "query")(x)
            source = memory if self.cross else x
            if source is not None:
                key_value = project((2, kv_heads, head_dim), "key_value")(source)
                key, value = unstack(key_value)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if query_scale is not None:
            query = query * query_scale.astype(query.dtype)
        if self.cross and key is not None:
            cache = LayerCache.of(key, value)
        elif cache is not None:
            cache = cache if self.cross else cache.write(key, value, start)
            if self.window is not None and mask is not None:
                mask = latest(mask, self.window)
        dropout = self.dropout if train else 0.0
        if cache is not None and query.shape[1] == 1 and not dropout:
            y = attend_once(query, cache, mask, bias, self.scale)
            return project((width,), "output", self.output_init, 2)(y), cache
        if cache is not None:
            key, value = (part.astype(query.dtype) for part in cache.read(kv_heads))
        plain, window = (True, self.window) if self.causal and cache is None else (False, None)
        y = attend(
            query,
            key,
            value,
            mask,
            plain,
            dropout,
            self.make_rng("dropout") if dropout else None,
            self.attention,
            bias,
            window,
            self.scale,
        )
        return project((width,), "output", self.output_init, 2)(y), cache
