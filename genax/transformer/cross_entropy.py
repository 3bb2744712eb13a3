"""Cross-entropy of integer targets."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


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
