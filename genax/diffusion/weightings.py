"""Weightings: how much the loss at each time counts."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core import GenaxError
from genax.diffusion.predictions import Prediction

# (prediction, signal [b], sigma [b]) -> the factor of each example's squared error.
Weighting = Callable[
    [Prediction, Float[Array, " b"], Float[Array, " b"]],
    Float[Array, " b"],
]


def uniform(
    prediction: Prediction, signal: Float[Array, " b"], sigma: Float[Array, " b"]
) -> Float[Array, " b"]:
    """Return 1 at every time, for the squared error of the network's own output."""
    return jnp.ones_like(sigma)


def min_snr(most: float = 5.0) -> Weighting:
    """Min-SNR (Hang et al. 2023, section 3.4): min(SNR, most) on the clean image's squared error.

    For another prediction the factor is that of the same loss: min(SNR, most) / SNR for noise.
    Noise cannot be predicted where there is no signal (SNR 0): the factor is NaN there.
    """
    if not most > 0:
        raise GenaxError(f"min_snr: most={most} has to be above 0.")

    def weight(prediction, signal, sigma):
        ratio = jnp.square(signal / sigma)
        return jnp.minimum(ratio, most) * _clean_error(prediction, signal, sigma)

    return weight


def _clean_error(prediction: Prediction, signal: Array, sigma: Array) -> Array:
    """Squared error of the clean image for an error of 1 of the output, on which it is linear."""
    zero, one = jnp.zeros_like(sigma), jnp.ones_like(sigma)
    difference = prediction.clean(one, zero, signal, sigma)
    return jnp.square(difference - prediction.clean(zero, zero, signal, sigma))
