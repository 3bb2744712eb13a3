"""Cross-entropy of integer targets."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from genax.nn.derivatives import set_reverse_rule


@jax.custom_jvp
def cross_entropy(
    logits: Float[Array, "*b vocab"], targets: Int[Array, "*b"]
) -> Float[Array, "*b"]:
    """Return -log softmax(logits)[target] in nats: logsumexp(logits) minus the target's logit.

    The result and all sums are float32. The gradient has the dtype of the logits. The result is NaN
    for a target outside [0, vocab).
    """
    return _forward(logits, targets)[0]


def _forward(logits, targets):
    wide = logits.astype(jnp.float32)
    total = jax.nn.logsumexp(wide, axis=-1)
    # A number below 0 would count from the end. A number beyond the end gives NaN.
    places = jnp.where(targets < 0, logits.shape[-1], targets.astype(jnp.int32))
    picked = jnp.take_along_axis(wide, places[..., None], axis=-1)[..., 0]
    return total - picked, (logits, targets, total)


def _backward(residuals, gradient):
    # The transpose of the gather is a scatter, which is slow on CPU and TPU.
    logits, targets, total = residuals
    hit = jnp.arange(logits.shape[-1], dtype=targets.dtype) == targets[..., None]
    probabilities = jnp.exp(logits.astype(jnp.float32) - total[..., None])
    return ((probabilities - hit) * gradient[..., None]).astype(logits.dtype), None


set_reverse_rule(cross_entropy, _forward, _backward)


def smoothed_cross_entropy(
    logits: Float[Array, "*b vocab"], targets: Int[Array, "*b"], smoothing: float
) -> Float[Array, "*b"]:
    """Cross-entropy with 1 - smoothing of the weight on the target and the rest on all tokens.

    (1 - e) H(target, p) + e H(uniform, p), in nats, float32: Szegedy et al. 2016, section 7.
    """
    nats = cross_entropy(logits, targets)
    if not smoothing:
        return nats
    wide = logits.astype(jnp.float32)
    uniform = jax.nn.logsumexp(wide, axis=-1) - wide.mean(-1)
    return (1 - smoothing) * nats + smoothing * uniform


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def chunked_cross_entropy(
    hidden: Float[Array, "*b d"],
    table: Float[Array, "vocab d"],
    targets: Int[Array, "*b"],
    chunk: int = 8192,
) -> tuple[Float[Array, "*b"], Bool[Array, "*b"]]:
    """Return the cross-entropy of logits hidden table^T, and whether the target is the likeliest.

    Logits exist for `chunk` tokens of the vocabulary at a time, in the backward pass too. So memory
    does not grow with the vocabulary, at the price of one more product. Cross-entropy is in nats,
    and NaN for a target outside [0, vocab). Sums are float32.
    """
    return _chunked_forward(hidden, table, targets, chunk)[0]


def _chunks(table, chunk):
    """Return the rows per chunk, where each chunk begins, and where its own rows begin.

    Chunks have one size. If they do not divide the table, the last one reaches back. Rows are read
    from the table itself, since a table padded to whole chunks would be a copy of it.
    """
    vocab = len(table)
    count = -(-vocab // chunk)
    size = -(-vocab // count)
    firsts = jnp.arange(count) * size
    return size, (jnp.minimum(firsts, vocab - size), firsts)


def _chunk_logits(hidden, table, start, size):
    rows = lax.dynamic_slice_in_dim(table, start, size)
    logits = jnp.einsum("...d,vd->...v", hidden, rows, preferred_element_type=jnp.float32)
    return rows, start + jnp.arange(size), logits


def _chunked_forward(hidden, table, targets, chunk):
    size, parts = _chunks(table, chunk)

    def read(carry, part):
        largest, total, picked = carry
        start, first = part
        _, numbers, logits = _chunk_logits(hidden, table, start, size)
        logits = jnp.where(numbers >= first, logits, -jnp.inf)
        new = jnp.maximum(largest, logits.max(-1))
        total = total * jnp.exp(largest - new) + jnp.exp(logits - new[..., None]).sum(-1)
        hit = (numbers == targets[..., None]) & (numbers >= first)
        picked += jnp.where(hit, logits, 0).sum(-1)
        return (new, total, picked), None

    zeros = jnp.zeros(targets.shape, jnp.float32)
    begin = (jnp.full_like(zeros, -jnp.inf), zeros, zeros)
    (largest, total, picked), _ = lax.scan(read, begin, parts)
    whole = largest + jnp.log(total)
    known = (targets >= 0) & (targets < len(table))
    nats = jnp.where(known, whole - picked, jnp.nan)
    return (nats, known & (picked >= largest)), (hidden, table, targets, whole)


def _chunked_backward(chunk, residuals, gradients):
    hidden, table, targets, whole = residuals
    gradient = gradients[0][..., None]
    size, parts = _chunks(table, chunk)

    def read(carry, part):
        dhidden, dtable = carry
        start, first = part
        rows, numbers, logits = _chunk_logits(hidden, table, start, size)
        slope = jnp.exp(logits - whole[..., None]) - (numbers == targets[..., None])
        slope = (slope * gradient).astype(hidden.dtype)
        drows = jnp.einsum("...v,...d->vd", slope, hidden).astype(table.dtype)
        # The rows that overlap the chunk before get the same gradient again, and must add nothing
        # more.
        slope = jnp.where(numbers >= first, slope, 0)
        dhidden += jnp.einsum("...v,vd->...d", slope, rows, preferred_element_type=jnp.float32)
        return (dhidden, lax.dynamic_update_slice_in_dim(dtable, drows, start, axis=0)), None

    begin = (jnp.zeros(hidden.shape, jnp.float32), jnp.zeros_like(table))
    (dhidden, dtable), _ = lax.scan(read, begin, parts)
    return dhidden.astype(hidden.dtype), dtable, None


set_reverse_rule(chunked_cross_entropy, _chunked_forward, _chunked_backward)
