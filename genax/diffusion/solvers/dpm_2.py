"""The midpoint method on the probability flow."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from genax.diffusion.process import Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.steps import (
    begin,
    check_invertible,
    check_times,
    level_at,
    levels,
    noise_in,
    transfer,
    walk,
)


def dpm_2(process: Process, times: np.ndarray, end: float | int | None = None) -> Solver:
    """Second-order solver whose slope is that in the middle of the step (Karras et al. 2022).

    The middle is that of ln(sigma / signal), as in DPM-Solver-2 (Lu et al. 2022) and KDPM2 of
    diffusers. n steps take 2n - 1 evaluations, since the last step, to the data, is Euler's.

    process: has a method `time_of`, and some signal at all times.
    times: falling times.
    end: time at which the last step ends. None is the data.
    Raises GenaxError for times that `check_times` refuses, and for a process without `time_of`.
    """
    times = check_times("dpm_2", process, times, end, needs_signal=True)
    found = check_invertible("dpm_2", process)

    def solve(denoise, noise, draw):
        def step(noisy, number, now, middle, after):
            slope = noise_in(noisy, denoise(noisy, now.time), now)

            def corrected():
                halfway = transfer(noisy, slope, now, middle)
                return noise_in(halfway, denoise(halfway, middle.time), middle)

            return transfer(noisy, lax.cond(after.sigma > 0, corrected, lambda: slope), now, after)

        now, after = levels(process, times, end)
        ratio, later = now.sigma / now.signal, after.sigma / after.signal
        between = jnp.sqrt(ratio * jnp.where(later > 0, later, ratio))
        middle = level_at(process, found.time_of(between))
        return walk(step, begin(process, noise, now), now, middle, after)

    return solve
