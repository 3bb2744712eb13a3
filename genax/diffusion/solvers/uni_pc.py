"""UniPC: a predictor and a corrector of any order that share their evaluations."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from genax.core import GenaxError
from genax.diffusion.process import Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.weighted import AS_PREDICTED, Path, Sum, check_end, find_path, weighted


def uni_pc(
    process: Process,
    times: np.ndarray,
    order: int = 2,
    quick: bool = True,
    of_noise: bool = False,
    lower_order_final: bool = True,
    uncorrected: Collection[int] = (),
    end: float | int | None = None,
) -> Solver:
    """UniPC, one evaluation per step (Zhao et al. 2023, algorithms 5 to 8).

    The output at the end of a step corrects that step, and then predicts the next one. Its
    corrector has the order of its predictor plus 1. The last step is not corrected, since that
    would take one more evaluation.

    times: falling times. The process must have some signal at all of them.
    order: order of the predictor, 1, 2 or 3.
    quick: B(h) = exp(h) - 1 ("bh2"), and otherwise B(h) = h ("bh1").
    of_noise: extrapolate predicted noise, and otherwise clean samples. It needs an end.
    lower_order_final: the order falls to 1 in the last steps.
    uncorrected: numbers of the steps, from 0 on, that are not corrected.
    end: the time at which the last step ends. None is the data, for which lower_order_final is
      needed.
    Raises GenaxError for times that `find_path` refuses, and for settings that do not go together.
    """
    if order not in (1, 2, 3):
        raise GenaxError(f"uni_pc: order={order} has to be 1, 2 or 3.")
    check_end("uni_pc", end, of_noise, lower_order_final)
    path = find_path("uni_pc", process, times, end)
    count = len(times)
    remaining = [min(order, count - step) if lower_order_final else order for step in range(count)]
    orders = [min(most, step + 1) for step, most in enumerate(remaining)]
    predict = [_predict(path, step, now, quick, of_noise) for step, now in enumerate(orders)]
    correct = [AS_PREDICTED]
    for step, now in enumerate(orders[:-1]):
        row = AS_PREDICTED if step in uncorrected else _correct(path, step, now, quick, of_noise)
        correct.append(row)
    return weighted(process, times, predict, correct, of_noise)


def _predict(path: Path, step: int, order: int, quick: bool, of_noise: bool) -> Sum:
    """Return the weights of a prediction from outputs at the start of the step and before."""
    sample, unit, signed = _frame(path, step, of_noise)
    outputs = np.zeros(order)
    outputs[0] = unit * np.expm1(signed)
    if order > 1:
        ratios, matrix, right = _system(path, step, order, signed, quick)
        # Its solution would be exact for order 2, for which the paper takes 1/2.
        shares = [0.5] if order == 2 else np.linalg.solve(matrix[:-1, :-1], right[:-1])
        differences = unit * _scale(signed, quick) * np.asarray(shares) / ratios[:-1]
        outputs[1:] = differences
        outputs[0] -= differences.sum()
    return Sum(sample, outputs)


def _correct(path: Path, step: int, order: int, quick: bool, of_noise: bool) -> Sum:
    """Return the weights of a correction. The newest output is that at the end of the step."""
    sample, unit, signed = _frame(path, step, of_noise)
    ratios, matrix, right = _system(path, step, order, signed, quick)
    shares = np.array([0.5]) if order == 1 else np.linalg.solve(matrix, right)
    differences = unit * _scale(signed, quick) * shares / ratios
    outputs = np.zeros(order + 1)
    outputs[0], outputs[2:] = differences[-1], differences[:-1]
    outputs[1] = unit * np.expm1(signed) - differences.sum()
    return Sum(sample, outputs)


def _frame(path: Path, step: int, of_noise: bool) -> tuple[float, float, float]:
    """Return the weight of the sample, the unit of the outputs, and the signed length h."""
    length = path.log_ratio[step + 1] - path.log_ratio[step]
    whole, part = (path.signal, path.sigma) if of_noise else (path.sigma, path.signal)
    return whole[step + 1] / whole[step], -part[step + 1], length if of_noise else -length


def _scale(signed: float, quick: bool) -> float:
    """Return B(h)."""
    return np.expm1(signed) if quick else signed


def _system(
    path: Path, step: int, order: int, signed: float, quick: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the places of outputs in the step's length, and the system of their shares."""
    length = abs(signed)
    before = path.log_ratio[step - order + 1 : step][::-1] - path.log_ratio[step]
    ratios = np.append(before / length, 1.0)
    right, term, factorial = [], np.expm1(signed) / signed - 1, 1
    for power in range(1, order + 1):
        right.append(term * factorial / _scale(signed, quick))
        factorial *= power + 1
        term = term / signed - 1 / factorial
    return ratios, np.vander(ratios, order, increasing=True).T, np.array(right)
