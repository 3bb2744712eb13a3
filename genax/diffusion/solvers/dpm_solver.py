"""The DPM-Solver++ solver."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from genax.diffusion.process import Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.steps import begin, check_times, levels, noise_in, walk


def dpm_solver_2m(process: Process, times: np.ndarray) -> Solver:
    """DPM-Solver++(2M), a second-order solver with one evaluation per step.

    Lu et al. 2022, algorithm 2. Each step is Euler's, towards the clean samples that the last two
    evaluations extrapolate to half a step of log(signal / sigma) ahead. The first step has no
    history. The last one, to the data, does not use it.

    times: falling times. The process must have some signal at all of them.
    Raises GenaxError for times that `check_times` refuses.
    """
    times = check_times("dpm_solver_2m", process, times)

    def solve(denoise, noise, draw):
        now, after = levels(process, times)
        lengths = jnp.diff(jnp.log(now.signal / now.sigma))
        ahead = jnp.zeros(len(times)).at[1:-1].set(lengths[1:] / lengths[:-1] / 2)

        def step(value, number, now, after, ahead):
            noisy, last = value
            clean = denoise(noisy, now.time)
            expected = clean + ahead * (clean - last)
            return after.signal * expected + after.sigma * noise_in(noisy, expected, now), clean

        start = begin(process, noise, now)
        return walk(step, (start, jnp.zeros_like(start)), now, after, ahead)[0]

    return solve
