"""Euler's method on the probability flow."""

from __future__ import annotations

import numpy as np

from genax.diffusion.process import Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.steps import begin, check_times, levels, noise_in, walk


def euler(process: Process, times: np.ndarray) -> Solver:
    """Euler's first-order method on the probability flow of any process.

    With a `DiscreteProcess` it is `ddim` without noise. With `VarianceExploding` it is algorithm 1
    of Karras et al. 2022 without the correction.

    times: falling times. The last step goes to the data.
    Raises GenaxError for times that `check_times` refuses.
    """
    times = check_times("euler", process, times)

    def solve(denoise, noise, draw):
        def step(noisy, number, now, after):
            clean = denoise(noisy, now.time)
            return after.signal * clean + after.sigma * noise_in(noisy, clean, now)

        now, after = levels(process, times)
        return walk(step, begin(process, noise, now), now, after)

    return solve
