"""Cross-entropy of integer targets."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int


@jax.custom_vjp
def cross_entropy(
    logits: Float[Array, "*b vocab"], targets: Int[Array, "*b"]
) -> Float[Array, "*b"]:
    """-log softmax(logits)[target], in nats: logsumexp(logits) minus the target's logit.

    The result and all sums are float32; the gradient has the type of the logits.
    """
    return _forward(logits, targets)[0]


def _forward(logits, targets):
    wide = logits.astype(jnp.float32)
    total = jax.nn.logsumexp(wide, axis=-1)
    picked = jnp.take_along_axis(wide, targets[..., None], axis=-1)[..., 0]
    return total - picked, (logits, targets, total)


def _backward(residuals, gradient):
    # Derived by hand since the transpose of the gather is a scatter, which CPU and TPU do slowly.
    logits, targets, total = residuals
    hit = jnp.arange(logits.shape[-1], dtype=targets.dtype) == targets[..., None]
    probabilities = jnp.exp(logits.astype(jnp.float32) - total[..., None])
    return ((probabilities - hit) * gradient[..., None]).astype(logits.dtype), None


cross_entropy.defvjp(_forward, _backward)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def chunked_cross_entropy(
    hidden: Float[Array, "*b d"],
    table: Float[Array, "vocab d"],
    targets: Int[Array, "*b"],
    chunk: int = 8192,
) -> tuple[Float[Array, "*b"], Bool[Array, "*b"]]:
    """Cross-entropy of logits hidden table^T in nats, and whether the target is the likeliest.

    Logits exist for `chunk` tokens of the vocabulary at a time, in the backward pass too: memory
    does not grow with the vocabulary, at the price of one more product. Sums are float32.
    """
    return _chunked_forward(hidden, table, targets, chunk)[0]


def _chunks(table, chunk):
    """[chunks, chunk, d], filled up with zeros, and the number of each row."""
    vocab = len(table)
    count = -(-vocab // chunk)
    rows = jnp.pad(table, ((0, count * chunk - vocab), (0, 0))).reshape(count, chunk, -1)
    return rows, jnp.arange(count * chunk).reshape(count, chunk)


def _chunk_logits(hidden, rows, numbers, vocab):
    logits = jnp.einsum("...d,vd->...v", hidden, rows, preferred_element_type=jnp.float32)
    return jnp.where(numbers < vocab, logits, -jnp.inf)


def _chunked_forward(hidden, table, targets, chunk):
    def read(carry, part):
        largest, total, picked = carry
        rows, numbers = part
        logits = _chunk_logits(hidden, rows, numbers, len(table))
        new = jnp.maximum(largest, logits.max(-1))
        total = total * jnp.exp(largest - new) + jnp.exp(logits - new[..., None]).sum(-1)
        picked += jnp.where(numbers == targets[..., None], logits, 0).sum(-1)
        return (new, total, picked), None

    zeros = jnp.zeros(targets.shape, jnp.float32)
    start = (jnp.full_like(zeros, -jnp.inf), zeros, zeros)
    (largest, total, picked), _ = lax.scan(read, start, _chunks(table, chunk))
    whole = largest + jnp.log(total)
    return (whole - picked, picked >= largest), (hidden, table, targets, whole)


def _chunked_backward(chunk, residuals, gradients):
    hidden, table, targets, whole = residuals
    gradient = gradients[0][..., None]

    def read(dhidden, part):
        rows, numbers = part
        logits = _chunk_logits(hidden, rows, numbers, len(table))
        slope = jnp.exp(logits - whole[..., None]) - (numbers == targets[..., None])
        slope = (slope * gradient).astype(hidden.dtype)
        dhidden += jnp.einsum("...v,vd->...d", slope, rows, preferred_element_type=jnp.float32)
        return dhidden, jnp.einsum("...v,...d->vd", slope, hidden)

    zeros = jnp.zeros(hidden.shape, jnp.float32)
    dhidden, dtable = lax.scan(read, zeros, _chunks(table, chunk))
    dtable = dtable.reshape(-1, table.shape[1])[: len(table)]
    return dhidden.astype(hidden.dtype), dtable.astype(table.dtype), None


chunked_cross_entropy.defvjp(_chunked_forward, _chunked_backward)
