"""Two-evaluation members of the DPM-Solver++ family, on processes whose time is their noise."""

from __future__ import annotations

import numpy as np

from genax.core import GenaxError
from genax.diffusion.process import Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.weighted import AS_BEFORE, AS_PREDICTED, Sum, find_path, weighted


def dpm_solver_sde(process: Process, times: np.ndarray) -> Solver:
    """DPM-Solver++ for the reverse SDE with two evaluations per step, the last one to the data.

    It is k-diffusion's `sample_dpmpp_sde` with both evaluations' noise drawn afresh. In k-diffusion
    both are increments of one Brownian path, so that paths of different step sizes agree.

    times: falling standard deviations, such as `karras` returns. n steps take 2n - 1 evaluations.
    Raises GenaxError for times that `find_path` refuses, and for a process whose times are not its
    standard deviations.
    """
    times = _sigmas("dpm_solver_sde", process, times)
    rows, starts, seen = [], [], []
    for now, after in zip(times[:-1], times[1:], strict=True):
        half = np.sqrt(now * after)
        rows += [_ancestral(now, half, 1.0), _ancestral(now, after, 1.0)]
        starts += [AS_PREDICTED, AS_BEFORE]
        seen += [now, half]
    return _to_data(process, rows, starts, [*seen, times[-1]])


def dpm_solver_2s(process: Process, times: np.ndarray, eta: float = 0.0) -> Solver:
    """DPM-Solver++(2S) with two evaluations per step, the last one to the data.

    Lu et al. 2022b, algorithm 1 with r = 1/2, and k-diffusion's `sample_dpmpp_2s_ancestral`, which
    makes shorter steps and adds noise after them. `dpm_solver_singlestep` is another algorithm.

    times: falling standard deviations, such as `karras` returns. n steps take 2n - 1 evaluations.
    eta: 0 solves the probability flow, and 1 the reverse SDE.
    Raises GenaxError for times that `find_path` refuses, for a process whose times are not its
    standard deviations, and for an eta that is not from 0 to 1.
    """
    if not 0 <= eta <= 1:
        raise GenaxError(f"dpm_solver_2s: eta={eta} has to be from 0 to 1.")
    times = _sigmas("dpm_solver_2s", process, times)
    rows, starts, seen = [], [], []
    for now, after in zip(times[:-1], times[1:], strict=True):
        row = _ancestral(now, after, eta)
        half = now * np.sqrt(row.sample)
        rows += [_ancestral(now, half, 0.0), row]
        starts += [AS_PREDICTED, AS_BEFORE]
        seen += [now, half]
    return _to_data(process, rows, starts, [*seen, times[-1]])


def _ancestral(now: float, after: float, eta: float) -> Sum:
    """Return the weights of a step down below `after`, and up to it by noise."""
    added = min(after, eta * after * np.sqrt(1 - (after / now) ** 2))
    ratio = np.sqrt(after**2 - added**2) / now
    return Sum(ratio, [1 - ratio], added)


def _to_data(process: Process, rows: list[Sum], starts: list[Sum], times: list[float]) -> Solver:
    """Return the solver with one more step, to the data."""
    return weighted(process, np.array(times), [*rows, Sum(0.0, [1.0])], [*starts, AS_PREDICTED])


def _sigmas(solver: str, process: Process, times: np.ndarray) -> np.ndarray:
    """Return the times.

    Raises GenaxError if they are not the process's standard deviations.
    """
    path = find_path(solver, process, times, None)
    times = np.asarray(times, np.float64)
    if not (np.allclose(path.signal, 1.0) and np.allclose(path.sigma[:-1], times)):
        raise GenaxError(
            f"{solver} evaluates between the times, which it finds only if they are standard "
            "deviations; take a process such as VarianceExploding."
        )
    return times
