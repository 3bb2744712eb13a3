"""Heun's method on the probability flow."""

from __future__ import annotations

import numpy as np
from jax import lax

from genax.diffusion.process import Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.steps import begin, check_times, levels, noise_in, walk


def heun(process: Process, times: np.ndarray) -> Solver:
    """Heun's second-order method on the probability flow (Karras et al. 2022, algorithm 1).

    n steps take 2n - 1 evaluations, since the last step, to the data, is Euler's.

    times: falling times, such as `karras` returns. The process must have some signal at all of
      them.
    Raises GenaxError for times that `check_times` refuses.
    """
    times = check_times("heun", process, times)

    def solve(denoise, noise, draw):
        def step(noisy, number, now, after):
            clean = denoise(noisy, now.time)
            slope = noise_in(noisy, clean, now)
            first = after.signal * clean + after.sigma * slope

            def corrected():
                other = noise_in(first, denoise(first, after.time), after)
                ratio = after.signal / now.signal
                return ratio * noisy + (after.sigma - ratio * now.sigma) * (slope + other) / 2

            return lax.cond(after.sigma > 0, corrected, lambda: first)

        now, after = levels(process, times)
        return walk(step, begin(process, noise, now), now, after)

    return solve
