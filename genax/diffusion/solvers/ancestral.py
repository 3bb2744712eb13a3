"""Ancestral sampling: the reverse chain of DDPM."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from genax.core import GenaxError
from genax.diffusion.process import DiscreteProcess, between, fixed_large
from genax.diffusion.respacing import respaced
from genax.diffusion.sampling import Solver, clean_and_fraction
from genax.diffusion.solvers.steps import check_times, float32, walk


def ancestral(
    process: DiscreteProcess,
    variance: Callable[[DiscreteProcess], np.ndarray] = fixed_large,
    timesteps: np.ndarray | None = None,
) -> Solver:
    """Reverse chain (Ho et al. 2020, algorithm 2), whose last step adds no noise.

    Fewer timesteps make a shorter chain with the same noise at each of them (Nichol & Dhariwal
    2021, section 4). The network still gets their numbers in the process.

    variance: variances of the steps, `fixed_small`, `fixed_large` or another function to a table
      [T]. `learned_range` gives the two ends [2, T] between which the network chooses.
    timesteps: falling whole numbers, such as `leading` returns. None means all T.
    Raises GenaxError for times that do not fall, and for fractional ones.
    """
    chain = process
    if timesteps is None:
        timesteps = np.arange(process.num_timesteps)[::-1]
    else:
        timesteps = check_times("ancestral", process, timesteps)
        if not np.issubdtype(timesteps.dtype, np.integer):
            raise GenaxError(f"ancestral: timesteps have to be whole numbers, got {timesteps}.")
        chain = respaced(process, timesteps)
    deviations = np.sqrt(variance(chain))
    learned = deviations.ndim == 2
    if not learned:
        deviations[0] = 0.0
    places = np.arange(len(timesteps))[::-1]

    def solve(denoise, noise, draw):
        def step(noisy, number, place, timestep, deviation):
            now = jnp.full(len(noisy), place)
            if not learned:
                mean = chain.posterior_mean(denoise(noisy, timestep), noisy, now)
                return mean + deviation * draw(number)
            clean, fraction = clean_and_fraction(denoise, noisy, timestep)
            chosen = jnp.where(place > 0, between(deviation, fraction), 0.0)
            return chain.posterior_mean(clean, noisy, now) + chosen * draw(number)

        rows = jnp.asarray(places), jnp.asarray(timesteps), float32(deviations[..., ::-1].T)
        return walk(step, noise, *rows)

    return solve
