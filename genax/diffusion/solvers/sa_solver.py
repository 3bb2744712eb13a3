"""SA-Solver: stochastic Adams methods."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from genax.core import GenaxError
from genax.diffusion.process import Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.weighted import AS_PREDICTED, Path, Sum, check_end, find_path, weighted


def middle(time: float | int) -> float:
    """Return 1 at timesteps from 200 to 800 of 1000, and 0 at others."""
    return 1.0 if 200 <= time <= 800 else 0.0


def sa_solver(
    process: Process,
    times: np.ndarray,
    predictor_order: int = 2,
    corrector_order: int = 2,
    stochasticity: Callable[[float | int], float] = middle,
    of_noise: bool = False,
    lower_order_final: bool = True,
    end: float | int | None = None,
) -> Solver:
    """SA-Solver, one evaluation per step (Xue et al. 2023, algorithm 1).

    A stochastic Adams-Bashforth step predicts. The output at its end corrects it by an
    Adams-Moulton step with the same noise. The last step is not corrected.

    times: falling times. The process must have some signal at all of them.
    predictor_order, corrector_order: numbers of outputs in a step, from 1 to 4.
    stochasticity: tau of a time. 0 solves the probability flow, and 1 the reverse SDE.
    of_noise: extrapolate predicted noise, and otherwise clean samples. It needs an end.
    lower_order_final: the orders fall in the last steps, the predictor's to 1.
    end: the time at which the last step ends. None is the data, for which lower_order_final is
      needed.
    Raises GenaxError for times that `find_path` refuses, and for settings that do not go together.
    """
    if not (1 <= predictor_order <= 4 and 1 <= corrector_order <= 4):
        raise GenaxError(
            f"sa_solver: predictor_order={predictor_order} and corrector_order={corrector_order} "
            "have to be from 1 to 4."
        )
    check_end("sa_solver", end, of_noise, lower_order_final)
    path = find_path("sa_solver", process, times, end)
    count = len(times)
    taus = [stochasticity(time) for time in np.asarray(times).tolist()]
    predict, correct = [], [AS_PREDICTED]
    history = max(predictor_order, corrector_order - 1)
    for step, tau in enumerate(taus):
        most = count - step if lower_order_final else max(predictor_order, corrector_order)
        order = min(predictor_order, most, step + 1)
        predict.append(_adams(path, step, step, order, tau, of_noise))
        order = min(corrector_order, most + 1, min(step, history) + 2)
        if step + 1 < count:
            correct.append(_adams(path, step, step + 1, order, tau, of_noise))
    return weighted(process, times, predict, correct, of_noise)


def _adams(path: Path, step: int, newest: int, order: int, tau: float, of_noise: bool) -> Sum:
    """Return the weights of a step with outputs at the index `newest` and before."""
    length = path.log_ratio[step + 1] - path.log_ratio[step]
    places = path.log_ratio[newest - order + 1 : newest + 1][::-1] - path.log_ratio[step + 1]
    if of_noise:
        unit = -(1 + tau**2) * path.sigma[step + 1]
        outputs = _integrals(-1.0, length, places)
        sample = path.signal[step + 1] / path.signal[step]
        spread = tau**2 * np.expm1(2 * length)
    else:
        rate = 1 + tau**2
        unit = rate * path.signal[step + 1]
        outputs = _integrals(rate, length, places)
        if order == 2:
            # The paper's correction of order 2, which keeps the order for small noise.
            gap = length**2 / 2 - (length * rate + np.expm1(-rate * length)) / rate**2
            gap /= path.log_ratio[newest] - path.log_ratio[newest - 1]
            outputs = outputs + np.array([gap, -gap])
        sample = np.exp(-(tau**2) * length) * path.sigma[step + 1] / path.sigma[step]
        spread = -np.expm1(-2 * tau**2 * length)
    return Sum(sample, unit * outputs, path.sigma[step + 1] * np.sqrt(spread) if tau else 0.0)


def _integrals(rate: float, length: float, places: np.ndarray) -> np.ndarray:
    """Return the integrals of exp(rate * x) times each Lagrange polynomial, from -length to 0.

    places: where the outputs are, which are the nodes of the polynomials.
    """
    if np.isinf(length):
        return np.array([1 / rate])
    moments = [-np.expm1(-rate * length) / rate]
    for power in range(1, len(places)):
        edge = -((-length) ** power) * np.exp(-rate * length)
        moments.append((edge - power * moments[-1]) / rate)
    return np.array([_lagrange(places, node) @ moments for node in range(len(places))])


def _lagrange(places: np.ndarray, node: int) -> np.ndarray:
    """Return the coefficients of the polynomial that is 1 at a node and 0 at the others."""
    others = np.delete(places, node)
    return np.atleast_1d(np.poly(others))[::-1] / np.prod(places[node] - others)
