"""Heun's method on straight paths."""

from __future__ import annotations

import numpy as np
from jax import lax

from genax.diffusion.process import Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.steps import begin, check_times, levels, noise_in, walk


def flow_heun(process: Process, times: np.ndarray, end: float | int | None = None) -> Solver:
    """Heun's second-order method on the paths of flow matching (Lipman et al. 2023).

    Samples divided by signal + sigma move with the velocity noise - clean along
    sigma / (signal + sigma), which is from 1 to 0 and is the time of rectified flows. So the method
    suits any process, also one without signal at its first time. Euler's method on these paths is
    `euler`. n steps take 2n - 1 evaluations, since the last step, to the data, is Euler's.

    times: falling times. The last step goes to the data.
    end: time at which the last step ends instead.
    Raises GenaxError for times that `check_times` refuses.
    """
    times = check_times("flow_heun", process, times, end)

    def solve(denoise, noise, draw):
        def velocity(noisy, level):
            clean = denoise(noisy, level.time)
            return noise_in(noisy, clean, level) - clean

        def step(noisy, number, now, after):
            before, scale = now.signal + now.sigma, after.signal + after.sigma
            length = after.sigma / scale - now.sigma / before

            def moved(slope):
                return scale * (noisy / before + length * slope)

            slope = velocity(noisy, now)
            first = moved(slope)
            return lax.cond(
                after.sigma > 0,
                lambda: moved((slope + velocity(first, after)) / 2),
                lambda: first,
            )

        now, after = levels(process, times, end)
        return walk(step, begin(process, noise, now), now, after)

    return solve
