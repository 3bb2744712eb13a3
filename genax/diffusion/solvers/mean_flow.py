"""Steps along average velocities."""

from __future__ import annotations

import numpy as np

from genax.diffusion.process import Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.steps import begin, check_times, float32, levels, noise_in, walk


def mean_flow(process: Process, times: np.ndarray) -> Solver:
    """Steps of MeanFlow, z_r = z_t - (t - r) u(z_t, r, t) (Geng et al. 2025, eq. 12).

    The network gets the time at which each step ends, and has learned the average velocity up to
    there. The times [1.0] are one step from noise to data, [1.0, 0.5] are two.

    process: `LinearFlow`.
    times: falling times. The last step goes to time 0.
    Raises GenaxError for times that `check_times` refuses.
    """
    times = check_times("mean_flow", process, times)
    ends = np.append(times[1:], 0.0)

    def solve(denoise, noise, draw):
        def step(noisy, number, now, after, end):
            clean = denoise(noisy, now.time, end=end)
            return after.signal * clean + after.sigma * noise_in(noisy, clean, now)

        now, after = levels(process, times)
        return walk(step, begin(process, noise, now), now, after, float32(ends))

    return solve
