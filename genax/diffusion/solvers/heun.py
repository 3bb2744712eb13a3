"""Heun's method on the probability flow."""

from __future__ import annotations

import numpy as np
from jax import lax

from genax.diffusion.process import Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.churn import Churn, raised
from genax.diffusion.solvers.steps import (
    begin,
    check_invertible,
    check_times,
    levels,
    noise_in,
    transfer,
    walk,
)


def heun(
    process: Process, times: np.ndarray, churn: Churn | None = None, end: float | int | None = None
) -> Solver:
    """Heun's second-order method on the probability flow (Karras et al. 2022, algorithm 2).

    n steps take 2n - 1 evaluations, since the last step, to the data, is Euler's. A process without
    signal at its first time takes `flow_heun`.

    times: falling times, such as `karras` returns. The process must have some signal at all of
      them.
    churn: noise that is added before each step. None adds none.
    end: time at which the last step ends. None is the data.
    Raises GenaxError for times that `check_times` refuses, and for churn on a process without
    `time_of`.
    """
    times = check_times("heun", process, times, end, needs_signal=True)
    if churn:
        check_invertible("heun with churn", process)

    def solve(denoise, noise, draw):
        def step(noisy, number, now, after):
            if churn:
                noisy = now.reach(noisy, draw(number))
            slope = noise_in(noisy, denoise(noisy, now.level.time), now.level)
            first = transfer(noisy, slope, now.level, after)

            def corrected():
                other = noise_in(first, denoise(first, after.time), after)
                return transfer(noisy, (slope + other) / 2, now.level, after)

            return lax.cond(after.sigma > 0, corrected, lambda: first)

        now, after = levels(process, times, end)
        return walk(step, begin(process, noise, now), raised(process, now, churn), after)

    return solve
