"""Members of the DPM-Solver++ family with two evaluations per step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from genax.diffusion.process import Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.steps import check_eta, check_invertible
from genax.diffusion.solvers.weighted import (
    AS_BEFORE,
    AS_PREDICTED,
    Path,
    Sum,
    find_path,
    path_at,
    weighted,
)


def dpm_solver_sde(process: Process, times: np.ndarray) -> Solver:
    """DPM-Solver++ for the reverse SDE with two evaluations per step.

    It is k-diffusion's `sample_dpmpp_sde` with fresh noise after each evaluation. k-diffusion takes
    increments of one Brownian path, so that paths of different step sizes agree. n steps take
    2n - 1 evaluations, since the last step, to the data, is Euler's.

    process: has a method `time_of`, and some signal at all times.
    times: falling times.
    Raises GenaxError for times that `find_path` refuses, and for a process without `time_of`.
    """
    return _two_evaluations("dpm_solver_sde", process, times, 1.0, noise_between=True)


def dpm_solver_2s(
    process: Process, times: np.ndarray, eta: float = 0.0, end: float | int | None = None
) -> Solver:
    """DPM-Solver++(2S), of second order, with two evaluations per step.

    Lu et al. 2022b, algorithm 1 with r = 1/2. With eta 1 it is k-diffusion's
    `sample_dpmpp_2s_ancestral`. `dpm_solver_singlestep` is another algorithm. n steps take 2n - 1
    evaluations, since the last step, to the data, is Euler's.

    process: has a method `time_of`, and some signal at all times.
    times: falling times.
    eta: noise after each step. 0 solves the probability flow, and 1 the reverse SDE.
    end: time at which the last step ends. None is the data.
    Raises GenaxError for times that `find_path` refuses, for a process without `time_of`, and for
    an eta that is not from 0 to 1.
    """
    check_eta("dpm_solver_2s", eta)
    return _two_evaluations("dpm_solver_2s", process, times, eta, end=end)


def _two_evaluations(
    solver: str,
    process: Process,
    times: np.ndarray,
    eta: float,
    noise_between: bool = False,
    end: float | int | None = None,
) -> Solver:
    """Return the solver that evaluates halfway in ln(sigma / signal), and then starts afresh."""
    invertible = check_invertible(solver, process)
    path = find_path(solver, process, times, end)
    ratios = path.sigma / path.signal
    whole = ratios[:-1] if end is None else ratios
    targets = whole[1:] if noise_between else _below(whole, eta)
    with jax.ensure_compile_time_eval():
        halves = invertible.time_of(jnp.asarray(np.sqrt(whole[:-1] * targets), float))
    times = np.asarray(times, np.float64)
    seen = np.empty(len(times) + len(halves))
    seen[::2], seen[1::2] = times, np.asarray(halves)
    path = path_at(process, seen, end)
    rows, starts = [], []
    for start in range(0, len(whole) * 2 - 2, 2):
        rows.append(_ancestral(path, start, start + 1, eta if noise_between else 0.0))
        rows.append(_ancestral(path, start, start + 2, eta))
        starts += [AS_PREDICTED, AS_BEFORE]
    if end is None:
        rows.append(Sum(0.0, [1.0]))
        starts.append(AS_PREDICTED)
    return weighted(process, seen, rows, starts)


def _below(ratios: np.ndarray, eta: float) -> np.ndarray:
    """Return sigma / signal at which each step ends, before its noise."""
    before, after = ratios[:-1], ratios[1:]
    added = np.minimum(after, eta * after * np.sqrt(1 - (after / before) ** 2))
    return np.sqrt(after**2 - added**2)


def _ancestral(path: Path, start: int, stop: int, eta: float) -> Sum:
    """Return the weights of a step to less noise, and up to that of the path by new noise."""
    before, after = (path.sigma[index] / path.signal[index] for index in (start, stop))
    [below] = _below(np.array([before, after]), eta)
    signal = path.signal[stop]
    kept = below / before
    added = np.sqrt(after**2 - below**2)
    return Sum(kept * signal / path.signal[start], [signal * (1 - kept)], signal * added)
