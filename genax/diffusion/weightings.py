"""Weightings: the weight of the loss at each time."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genax.core import GenaxError
from genax.diffusion.predictions import EPSILON, Prediction
from genax.diffusion.process import DiscreteProcess, look_up

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


def as_prediction(other: Prediction) -> Weighting:
    """Weighting with which the loss is the squared error of another prediction.

    For V it is SNR + 1 on the clean image's error (Salimans & Ho 2022, section 4), for EPSILON SNR.
    """

    def weight(prediction, signal, sigma):
        return _clean_error(prediction, signal, sigma) / _clean_error(other, signal, sigma)

    return weight


def p2(gamma: float = 1.0, k: float = 1.0) -> Weighting:
    """P2 weighting (Choi et al. 2022, eq. 8): (k + SNR)^-gamma on the noise's error.

    For another prediction the factor is the one that gives the same loss.

    Raises GenaxError for a k that is not above 0.
    """
    if not k > 0:
        raise GenaxError(f"p2: k={k} has to be above 0.")

    def weight(prediction, signal, sigma):
        ratio = jnp.square(signal / sigma)
        return as_prediction(EPSILON)(prediction, signal, sigma) * (k + ratio) ** -gamma

    return weight


def variational(process: DiscreteProcess) -> Weighting:
    """Weighting of a discrete process's bound with the variances beta (Ho et al. 2020, eq. 12).

    On the noise's error it is beta^2 / (2 variance (1 - beta) sigma^2), in nats for each timestep
    from 1 on. Timestep 0, which the bound scores by a decoder, has the weight of the same formula.

    Raises GenaxError for a process whose last beta is 1: its step back has no such weight.
    """
    if process.betas[-1] == 1:
        raise GenaxError(
            "variational: the last timestep of the process has no signal (zero terminal SNR), and "
            "no weight; choose another weighting, or a process with signal at all timesteps."
        )
    kept = process.alphas_cumprod
    table = process.betas / (2 * (1 - process.betas) * (1 - kept))
    signals = np.sqrt(kept)
    # The signal falls with the timestep, and tells which one it is.
    between = jnp.asarray(-(signals[1:] + signals[:-1]) / 2, jnp.float32)

    def weight(prediction, signal, sigma):
        timesteps = jnp.searchsorted(between, -signal)
        return look_up(table, timesteps) * as_prediction(EPSILON)(prediction, signal, sigma)

    return weight


def _clean_error(prediction: Prediction, signal: Array, sigma: Array) -> Array:
    """Return the clean image's squared error for an output error of 1, on which it is linear."""
    zero, one = jnp.zeros_like(sigma), jnp.ones_like(sigma)
    difference = prediction.clean(one, zero, signal, sigma)
    return jnp.square(difference - prediction.clean(zero, zero, signal, sigma))
