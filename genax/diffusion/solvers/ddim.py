"""Denoising diffusion implicit models, and their inversion."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.diffusion.process import Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.steps import (
    Level,
    begin,
    check_eta,
    check_times,
    levels,
    noise_in,
    transfer,
    walk,
)


class DDIMCoefficients(NamedTuple):
    """Factors of the steps of DDIM.

    signal: factor of the clean samples.
    direction: factor of their predicted noise.
    deviation: factor of new noise.
    """

    signal: Float[Array, "*steps"]
    direction: Float[Array, "*steps"]
    deviation: Float[Array, "*steps"]


def ddim_coefficients(now: Level, after: Level, eta: float = 0.0) -> DDIMCoefficients:
    """Return the factors of steps from the levels `now` to the levels `after`.

    Song et al. 2021, eq. 12 and 16, with sigma / signal in place of their alpha, so that they hold
    for any process.
    """
    ratio = after.sigma * now.signal / (after.signal * now.sigma)
    fresh = eta * jnp.sqrt(jnp.maximum(1 - ratio**2, 0.0))
    kept = jnp.sqrt(jnp.maximum(1 - fresh**2, 0.0))
    return DDIMCoefficients(after.signal, after.sigma * kept, after.sigma * fresh)


def ddim(
    process: Process, times: np.ndarray, eta: float = 0.0, end: float | int | None = None
) -> Solver:
    """Denoising diffusion implicit models (Song et al. 2021, eq. 12) on any process.

    The predicted noise is the one that belongs to the clean samples after clipping.

    times: falling times, such as `leading` returns.
    eta: 0 is deterministic after the first noise. 1 has the variances of DDPM.
    end: time at which the last step ends, such as timestep 0. None is the data.
    Raises GenaxError for times that do not fall, and for an eta that is not from 0 to 1.
    """
    times = check_times("ddim", process, times, end)
    check_eta("ddim", eta)

    def solve(denoise, noise, draw):
        def step(noisy, number, now, row):
            clean = denoise(noisy, now.time)
            x = row.signal * clean + row.direction * noise_in(noisy, clean, now)
            return x + row.deviation * draw(number) if eta else x

        now, after = levels(process, times, end)
        return walk(step, begin(process, noise, now), now, ddim_coefficients(now, after, eta))

    return solve


def ddim_inversion(process: Process, times: np.ndarray, end: float | int | None = None) -> Solver:
    """Way from data to the noise that `ddim` with the same times and eta 0 turns into it.

    It starts from clean images in place of noise, see `given_images` of `sampling`. A step
    back takes the noise that the network predicts at the level to which the step goes, as if the
    samples were there already. So the round trip has the error of a first-order method.

    The denoising function must not clip: noise in clean images cannot be told after clipping.

    times: falling times of `ddim`.
    end: `end` of `ddim`, at whose level the images are. None is the data.
    Raises GenaxError for times that do not fall, and for a denoising function that clips.
    """
    times = check_times("ddim_inversion", process, times, end)

    def solve(denoise, images, draw):
        if getattr(denoise, "clips", False):
            raise GenaxError(
                "ddim_inversion: noise in clean images cannot be told after clipping; sample with "
                "clip_denoised=False."
            )

        def step(noisy, number, now, after):
            noise = noise_in(noisy, denoise(noisy, after.time), after)
            return transfer(noisy, noise, now, after)

        above, below = jax.tree.map(jnp.flip, levels(process, times, end))
        return walk(step, images, below, above)

    return solve
