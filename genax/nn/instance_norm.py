"""Instance normalisation without parameters."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.nn.group_norm import group_norm


def instance_norm(
    x: Float[Array, "b *space c"], epsilon: float = 1e-5
) -> Float[Array, "b *space c"]:
    """Normalise each channel of each image over its pixels (Ulyanov et al. 2016, arXiv:1607.08022).

    The variance is the biased one, as in PyTorch. The moments are float32 for every dtype of x, and
    the result has the dtype of x.
    """
    channels = x.shape[-1]
    y = group_norm(x, jnp.ones(channels), jnp.zeros(channels), channels, epsilon)
    return y.astype(x.dtype)
