"""Ancestral sampling: the reverse chain of DDPM."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from genax.diffusion.process import DiscreteProcess, between, fixed_large
from genax.diffusion.sampling import Solver, clean_and_fraction
from genax.diffusion.solvers.steps import float32, walk


def ancestral(
    process: DiscreteProcess,
    variance: Callable[[DiscreteProcess], np.ndarray] = fixed_large,
) -> Solver:
    """All T steps of the reverse chain (Ho et al. 2020, algorithm 2), the last without noise.

    variance: variances of the steps, `fixed_small`, `fixed_large` or another function to a table
      [T]. `learned_range` gives the two ends [2, T] between which the network chooses.
    """
    deviations = np.sqrt(variance(process))
    learned = deviations.ndim == 2
    if not learned:
        deviations[0] = 0.0
    timesteps = np.arange(process.num_timesteps)[::-1]

    def solve(denoise, noise, draw):
        def step(noisy, number, timestep, deviation):
            now = jnp.full(len(noisy), timestep)
            if not learned:
                mean = process.posterior_mean(denoise(noisy, timestep), noisy, now)
                return mean + deviation * draw(number)
            clean, fraction = clean_and_fraction(denoise, noisy, timestep)
            chosen = jnp.where(timestep > 0, between(deviation, fraction), 0.0)
            return process.posterior_mean(clean, noisy, now) + chosen * draw(number)

        return walk(step, noise, jnp.asarray(timesteps), float32(deviations[..., ::-1].T))

    return solve
