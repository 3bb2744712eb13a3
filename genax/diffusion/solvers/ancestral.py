"""Ancestral sampling: the reverse chain of DDPM."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from genax.diffusion.process import DiscreteProcess, fixed_large
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.steps import float32, walk


def ancestral(
    process: DiscreteProcess,
    variance: Callable[[DiscreteProcess], np.ndarray] = fixed_large,
) -> Solver:
    """All T steps of the reverse chain (Ho et al. 2020, algorithm 2), the last without noise.

    variance: variances of the steps, `fixed_small`, `fixed_large` or another function to a table
      [T].
    """
    deviations = np.sqrt(variance(process))
    deviations[0] = 0.0
    timesteps = np.arange(process.num_timesteps)[::-1]

    def solve(denoise, noise, draw):
        def step(noisy, number, timestep, deviation):
            now = jnp.full(len(noisy), timestep)
            mean = process.posterior_mean(denoise(noisy, timestep), noisy, now)
            return mean + deviation * draw(number)

        return walk(step, noise, jnp.asarray(timesteps), float32(deviations[::-1]))

    return solve
