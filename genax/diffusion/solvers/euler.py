"""Euler's method on the probability flow, also with noise."""

from __future__ import annotations

import numpy as np

from genax.diffusion.process import Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.churn import Churn, raised
from genax.diffusion.solvers.ddim import ddim
from genax.diffusion.solvers.steps import (
    begin,
    check_invertible,
    check_times,
    levels,
    noise_in,
    walk,
)


def euler(
    process: Process, times: np.ndarray, churn: Churn | None = None, end: float | int | None = None
) -> Solver:
    """Euler's first-order method on the probability flow of any process.

    With a `DiscreteProcess` it is `ddim` without noise. With `VarianceExploding` it is algorithm 2
    of Karras et al. 2022 without the correction. On straight paths from data to noise it is Euler's
    method in time. Without churn there need be no signal at the first time.

    times: falling times. The last step goes to the data.
    churn: noise that is added before each step. None adds none.
    end: time at which the last step ends instead.
    Raises GenaxError for times that `check_times` refuses, and for churn on a process without
    `time_of`.
    """
    times = check_times("euler", process, times, end, needs_signal=bool(churn))
    if churn:
        check_invertible("euler with churn", process)

    def solve(denoise, noise, draw):
        def step(noisy, number, now, after):
            if churn:
                noisy = now.reach(noisy, draw(number))
            clean = denoise(noisy, now.level.time)
            return after.signal * clean + after.sigma * noise_in(noisy, clean, now.level)

        now, after = levels(process, times, end)
        return walk(step, begin(process, noise, now), raised(process, now, churn), after)

    return solve


def euler_ancestral(process: Process, times: np.ndarray, end: float | int | None = None) -> Solver:
    """Euler's method with new noise in each step, as much as the chain of DDPM adds.

    It is `ddim` with eta 1, which for a variance-exploding process is the method that k-diffusion
    has under this name.

    times, end: see `euler`.
    Raises GenaxError for times that `check_times` refuses.
    """
    return ddim(process, times, eta=1.0, end=end)
