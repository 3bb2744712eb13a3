"""Denoising diffusion implicit models."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from genax.core import GenaxError
from genax.diffusion.process import DiscreteProcess
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.steps import check_times, float32, levels, noise_in, walk


class DDIMCoefficients(NamedTuple):
    """Factors of the steps of DDIM.

    signal: factor of the clean samples.
    direction: factor of their predicted noise.
    deviation: factor of new noise.
    """

    signal: Any
    direction: Any
    deviation: Any


def ddim_coefficients(
    process: DiscreteProcess, timesteps: np.ndarray, eta: float = 0.0
) -> DDIMCoefficients:
    """Return the factors of the steps through falling timesteps to the data.

    Each is float64 [num_steps]. Song et al. 2021, eq. 12 and 16 (whose alpha is alphas_cumprod).
    Raises GenaxError for an eta below 0, or above 1, with which a step would add more noise than
    there is at its end.
    """
    if not 0 <= eta <= 1:
        raise GenaxError(
            f"eta={eta} of DDIM has to be from 0 to 1: 0 adds no noise, 1 as much as DDPM."
        )
    now = process.alphas_cumprod[timesteps]
    before = np.append(now[1:], 1.0)
    deviation = eta * np.sqrt((1 - before) / (1 - now) * (1 - now / before))
    direction = np.sqrt(np.maximum(1 - before - deviation**2, 0.0))
    return DDIMCoefficients(np.sqrt(before), direction, deviation)


def ddim(process: DiscreteProcess, timesteps: np.ndarray, eta: float = 0.0) -> Solver:
    """Denoising diffusion implicit models (Song et al. 2021, eq. 12).

    The predicted noise is the one that belongs to the clean samples after clipping.

    timesteps: falling timesteps, such as `leading` returns.
    eta: 0 is deterministic after the first noise. 1 has the variances of DDPM.
    Raises GenaxError for times that do not fall, and for an eta that is not from 0 to 1.
    """
    timesteps = check_times("ddim", process, timesteps)
    coefficients = ddim_coefficients(process, timesteps, eta)

    def solve(denoise, noise, draw):
        def step(noisy, number, now, row):
            clean = denoise(noisy, now.time)
            x = row.signal * clean + row.direction * noise_in(noisy, clean, now)
            return x + row.deviation * draw(number) if eta else x

        now, _ = levels(process, timesteps)
        return walk(step, noise, now, float32(coefficients))

    return solve
