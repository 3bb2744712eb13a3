"""Weightings: the weight of the loss at each time."""

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
    """Min-SNR weighting (Hang et al. 2023, section 3.4): min(SNR, most) on the clean image's error.

    The error is squared. For another prediction the factor is the one that gives the same loss,
    such as min(SNR, most) / SNR for noise. Noise cannot be predicted without signal (SNR 0), so the
    factor is NaN there.

    most: bound of the weight, above 0.
    Raises GenaxError for a bound that is not above 0.
    """
    if not most > 0:
        raise GenaxError(f"min_snr: most={most} has to be above 0.")

    def weight(prediction, signal, sigma):
        ratio = jnp.square(signal / sigma)
        return jnp.minimum(ratio, most) * _clean_error(prediction, signal, sigma)

    return weight


def _clean_error(prediction: Prediction, signal: Array, sigma: Array) -> Array:
    """Return the clean image's squared error for an output error of 1, on which it is linear."""
    zero, one = jnp.zeros_like(sigma), jnp.ones_like(sigma)
    difference = prediction.clean(one, zero, signal, sigma)
    return jnp.square(difference - prediction.clean(zero, zero, signal, sigma))
