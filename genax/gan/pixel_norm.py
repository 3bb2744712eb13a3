"""Normalisation of each pixel's feature vector."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

EPSILON = 1e-8


def pixel_norm(x: Float[Array, "b ... c"]) -> Float[Array, "b ... c"]:
    """Divide each vector of channels by its root mean square.

    Karras et al. 2018 (arXiv:1710.10196), section 4.2. The mean is computed in float32.
    """
    mean = jnp.square(x.astype(jnp.float32)).mean(-1, keepdims=True)
    return (x * lax.rsqrt(mean + EPSILON)).astype(x.dtype)
