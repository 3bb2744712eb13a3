"""DPM-Solver, DPM-Solver++ and their stochastic variants: multistep and single-step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genax.core import GenaxError
from genax.diffusion.process import Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.weighted import (
    AS_BEFORE,
    AS_PREDICTED,
    Path,
    Sum,
    find_path,
    weighted,
)

# With fewer steps than these, the last steps are of lower order.
FEW_STEPS = 15


def dpm_solver(
    process: Process,
    times: np.ndarray,
    order: int = 2,
    heun: bool = False,
    stochastic: bool = False,
    of_noise: bool = False,
    lower_order_final: bool = True,
    euler_at_final: bool = False,
    end: float | int | None = None,
) -> Solver:
    """DPM-Solver++ with several steps of history: one evaluation per step.

    Lu et al. 2022b, algorithm 2 is order 2. Order 3 is that of the authors' code, whose second
    derivative is half of the Taylor term, so that its error falls at order 2. The first steps have
    the order that their history allows. The step to the data is of order 1.

    times: falling times. The process must have some signal at all of them.
    order: 1, 2 or 3 evaluations in each step. Order 1 is DDIM without noise.
    heun: expand the integral to first order, and otherwise take its slope at the middle. It matters
      to order 2.
    stochastic: solve the reverse SDE. Every step draws its own noise, so paths of different step
      sizes share none (k-diffusion takes the noise of one Brownian path).
    of_noise: extrapolate predicted noise (DPM-Solver, Lu et al. 2022a), and otherwise clean
      samples. It needs an end.
    lower_order_final: with fewer than 15 steps, the last step is of order 1, and the one before of
      order 2 at most.
    euler_at_final: the last step is always of order 1.
    end: the time at which the last step ends. None is the data.
    Raises GenaxError for times that `find_path` refuses, and for settings that do not go together.
    """
    _check("dpm_solver", order, of_noise, end)
    path = find_path("dpm_solver", process, times, end)
    count = len(times)
    few = lower_order_final and count < FEW_STEPS

    def order_at(step: int) -> int:
        if step == count - 1 and (euler_at_final or few or end is None or end == times[-1]):
            return 1
        most = 2 if few and step == count - 2 else 3
        return min(order, step + 1, most)

    rows = [
        _step(path, step, step + 1, order_at(step), heun, stochastic, of_noise)
        for step in range(count)
    ]
    return weighted(process, times, rows, [AS_PREDICTED] * count, of_noise)


def dpm_solver_2m(process: Process, times: np.ndarray) -> Solver:
    """DPM-Solver++(2M), a second-order solver with one evaluation per step.

    Lu et al. 2022b, algorithm 2. Each step is Euler's, towards the clean samples that the last two
    evaluations extrapolate to half a step of log(signal / sigma) ahead. The first step has no
    history. The last one, to the data, does not use it.

    times: falling times. The process must have some signal at all of them.
    Raises GenaxError for times that `dpm_solver` refuses.
    """
    return dpm_solver(process, times, lower_order_final=False)


def dpm_solver_singlestep(
    process: Process,
    times: np.ndarray,
    order: int = 2,
    heun: bool = False,
    stochastic: bool = False,
    of_noise: bool = False,
    lower_order_final: bool = True,
    end: float | int | None = None,
) -> Solver:
    """DPM-Solver++ in single steps of several evaluations, as diffusers counts them.

    The times are those of all evaluations. Those of a step of order 2 are the beginning of the step
    and a time in between, which a step of order 1 reaches. Every step starts afresh from the
    sample of its first evaluation. The orders are 1, 2, 1, 2, ... or 1, 2, 3, 1, 2, 3, ...

    order: 1, 2 or 3 evaluations in each step.
    heun, stochastic, of_noise, end: as for `dpm_solver`.
    lower_order_final: end with steps of lower order if the evaluations do not fill whole steps, or
      at the data. Otherwise their number is a multiple of the order.
    Raises GenaxError for times that `find_path` refuses, and for settings that do not go together.
    """
    _check("dpm_solver_singlestep", order, of_noise, end)
    path = find_path("dpm_solver_singlestep", process, times, end)
    count = len(times)
    if not lower_order_final and (count % order or end is None):
        raise GenaxError(
            f"dpm_solver_singlestep: without lower_order_final, steps of order {order} need an end "
            f"before the data and a multiple of {order} times, got {count} and end={end}."
        )
    orders = evaluations(count, order, lower_order_final)
    if end is None or end == times[-1]:
        orders[-1] = 1
    rows = [
        _step(path, step + 1 - now, step + 1, now, heun, stochastic, of_noise, single=True)
        for step, now in enumerate(orders)
    ]
    starts = [AS_PREDICTED if now == 1 else AS_BEFORE for now in orders]
    return weighted(process, times, rows, starts, of_noise)


def evaluations(count: int, order: int, lower_order_final: bool) -> list[int]:
    """Return the order of each of `count` evaluations: how many its step has had, with itself."""
    whole, rest = divmod(count, order)
    if not lower_order_final or order == 1:
        return [*range(1, order + 1)] * whole
    if rest:
        return [*range(1, order + 1)] * whole + [*range(1, rest + 1)]
    return [*range(1, order + 1)] * (whole - 1) + [*range(1, order), 1]


def _check(solver: str, order: int, of_noise: bool, end: float | int | None) -> None:
    if order not in (1, 2, 3):
        raise GenaxError(f"{solver}: order={order} has to be 1, 2 or 3.")
    if of_noise and end is None:
        raise GenaxError(
            f"{solver}: predicted noise cannot be extrapolated to the data, which has none; give "
            "an end, such as the smallest time of the process."
        )


def _step(
    path: Path,
    start: int,
    stop: int,
    order: int,
    heun: bool,
    stochastic: bool,
    of_noise: bool,
    single: bool = False,
) -> Sum:
    """Return the weights of a step between two indices of the path.

    single: the newest outputs are from after the start of the step, not from before.
    """
    length = path.log_ratio[stop] - path.log_ratio[start]
    scale = path.signal[stop] / path.signal[start]
    if of_noise:
        unit, sample = -path.sigma[stop] * (2 if stochastic else 1), scale
        terms = _growing(length, order)
        spread = np.expm1(2 * length)
    else:
        unit = path.signal[stop]
        sample = path.sigma[stop] / path.sigma[start] * (np.exp(-length) if stochastic else 1)
        terms = _falling(length * (2 if stochastic else 1), order)
        spread = -np.expm1(-2 * length)
    if order == 2 and not heun:
        terms[1] = terms[0] / 2
    if order > 1:
        ratios = (path.log_ratio[stop - order : stop] - path.log_ratio[start])[::-1] / length
        terms = _of_single_step(terms, ratios, heun) if single else _of_history(terms, ratios)
    noise = path.sigma[stop] * np.sqrt(spread) if stochastic else 0.0
    return Sum(sample, unit * np.array(terms), noise)


def _falling(length: float, order: int) -> list[float]:
    """Return the integrals of a constant, linear and quadratic course of clean samples."""
    terms = [-np.expm1(-length)]
    if order > 1:
        terms.append(1 - terms[0] / length)
    if order > 2:
        terms.append(0.5 - terms[1] / length)
    return terms


def _growing(length: float, order: int) -> list[float]:
    """Return the integrals of a constant, linear and quadratic course of predicted noise."""
    terms = [np.expm1(length)]
    if order > 1:
        terms.append(terms[0] / length - 1)
    if order > 2:
        terms.append(terms[1] / length - 0.5)
    return terms


def _of_history(terms: Sequence[float], ratios: np.ndarray) -> list[float]:
    """Return the weights of outputs at the start of the step and before, the newest first.

    ratios: places of the outputs, from the start of the step on, in its length.
    """
    first, second, *third = terms
    if not third:
        slope = second / (ratios[0] - ratios[1])
        return [first + slope, -slope]
    near, far = ratios[0] - ratios[1], ratios[1] - ratios[2]
    bend = (second * near + third[0]) / (near + far)
    of_near, of_far = (second + bend) / near, -bend / far
    return [first + of_near, of_far - of_near, -of_far]


def _of_single_step(terms: Sequence[float], ratios: np.ndarray, heun: bool) -> list[float]:
    """Return the weights of outputs within the step, whose start is the oldest, the newest first.

    ratios: places of the outputs, from the start of the step on, in its length.
    """
    first, second, *third = terms
    if not third or not heun:
        slope = second / ratios[0]
        return [slope, *[0.0] * len(third), first - slope]
    late, early, _ = ratios
    of_late = (2 * third[0] - second * early) / (late - early) / late
    of_early = (second * late - 2 * third[0]) / (late - early) / early
    return [of_late, of_early, first - of_late - of_early]
