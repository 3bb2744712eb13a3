"""EDM's preconditioning: a network of inputs and outputs of variance 1 at every noise level."""

from __future__ import annotations

import jax.numpy as jnp

from genax.core.errors import GenaxError
from genax.diffusion.predictions import Prediction


def preconditioned(data_deviation: float = 0.5) -> Prediction:
    """Prediction of EDM (Karras et al. 2022, eq. 7 and table 1), for any process.

    The clean image is c_skip noisy + c_out output, and the network gets c_in noisy and
    c_noise = ln(sigma / signal) / 4. The paper's factors are those of signal 1. The target of the
    output is what makes the clean image exact. The paper's weight (sigma^2 + d^2) / (sigma d)^2 of
    the clean image's error is 1 / c_out^2, so the output's own error has weight 1 (`uniform`).

    data_deviation: the standard deviation d of the data; 0.5 is that of images in [-1, 1].
    Raises GenaxError for a deviation that is not above 0.
    """
    if not data_deviation > 0:
        raise GenaxError(f"preconditioned: data_deviation={data_deviation} has to be above 0.")

    def noisy_deviation(signal, sigma):
        return jnp.sqrt(jnp.square(sigma) + jnp.square(signal * data_deviation))

    def target(clean, noise, signal, sigma):
        # (clean - c_skip noisy) / c_out, without the difference of two nearly equal images.
        pull = sigma * clean - signal * data_deviation**2 * noise
        return pull / (data_deviation * noisy_deviation(signal, sigma))

    def clean(output, noisy, signal, sigma):
        deviation = noisy_deviation(signal, sigma)
        skip = signal * jnp.square(data_deviation / deviation)
        return skip * noisy + sigma * data_deviation / deviation * output

    def inputs(noisy, times, signal, sigma):
        level = jnp.log(sigma / signal) / 4
        return noisy / noisy_deviation(signal, sigma), level.reshape(times.shape)

    return Prediction(target, clean, inputs)
