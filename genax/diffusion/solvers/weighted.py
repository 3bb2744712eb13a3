"""Solvers whose steps are weighted sums of samples, outputs and noise, from tables of weights.

All members of the DPM-Solver family, UniPC and SA-Solver are such sums. They differ in the weights
alone, so that they share one compiled loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genax.core import GenaxError
from genax.diffusion.process import DiscreteProcess, Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.steps import begin, check_times, float32, levels, noise_in, walk


class Path(NamedTuple):
    """Levels of noise at the times of a solver and at its end: float64 [num_steps + 1].

    signal: factor of the clean samples.
    sigma: standard deviation of the noise.
    log_ratio: log(signal / sigma), which is infinite at the data.
    """

    signal: np.ndarray
    sigma: np.ndarray
    log_ratio: np.ndarray


class Sum(NamedTuple):
    """Weights of a sum that predicts the end of a step, or corrects its beginning.

    sample: weight of the sample from which this step is made. In a correction it is the weight of
      the sample from which the last step was made.
    outputs: weights of the network's outputs, the newest first.
    noise: weight of standard normal noise. A correction has the noise of the last step.
    predicted: weight of what the last step predicted.
    """

    sample: float | np.ndarray
    outputs: Sequence[float] | np.ndarray = ()
    noise: float | np.ndarray = 0.0
    predicted: float | np.ndarray = 0.0


# No correction: the step is made from what the last one predicted.
AS_PREDICTED = Sum(0.0, predicted=1.0)
# The step is made from the sample from which the last one was made.
AS_BEFORE = Sum(1.0)


def find_path(solver: str, process: Process, times: np.ndarray, end: float | int | None) -> Path:
    """Return the levels at the times and at the end, None for the data.

    Raises GenaxError for times and ends that `check_times` refuses, and for a time without any
    signal or any noise.
    """
    times = check_times(solver, process, times, end, needs_signal=True)
    path = path_at(process, times, end)
    if end is not None and not path.sigma[-1] > 0:
        raise GenaxError(
            f"{solver}: there is no noise at the end {end}; choose None, which is the data."
        )
    return path


def check_end(
    solver: str, end: float | int | None, of_noise: bool, lower_order_final: bool
) -> None:
    """Raise GenaxError for a step to the data that needs more than the newest clean samples."""
    if end is None and (of_noise or not lower_order_final):
        raise GenaxError(
            f"{solver}: give an end before the data, such as the smallest time of the process; the "
            "step to the data needs clean samples and lower_order_final."
        )


def path_at(process: Process, times: np.ndarray, end: float | int | None) -> Path:
    """Return the levels at the times and at the end, None for the data."""
    if end is not None:
        # A float would turn whole times into floats.
        times = np.append(times, int(end) if times.dtype.kind == "i" else end)
    signal, sigma = _levels(process, times)
    if end is None:
        signal, sigma = np.append(signal, 1.0), np.append(sigma, 0.0)
    with np.errstate(divide="ignore"):
        return Path(signal, sigma, np.log(signal) - np.log(sigma))


def _levels(process: Process, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return signal and sigma, for a discrete process without the rounding of float32."""
    if isinstance(process, DiscreteProcess) and np.issubdtype(times.dtype, np.integer):
        share = process.alphas_cumprod[times]
        return np.sqrt(share), np.sqrt(1 - share)
    # Also within jit, the weights are constants.
    with jax.ensure_compile_time_eval():
        at = jnp.asarray(times)
        return np.asarray(process.signal(at), np.float64), np.asarray(process.sigma(at), np.float64)


def weighted(
    process: Process,
    times: np.ndarray,
    predict: Sequence[Sum],
    correct: Sequence[Sum],
    of_noise: bool = False,
) -> Solver:
    """Return the solver whose steps are the weighted sums of two tables.

    A step evaluates the network on what the last one predicted, and corrects that by the output
    with a row of `correct`. It goes on from there with a row of `predict`.

    times: the times at which the network is evaluated.
    predict, correct: one row per time.
    of_noise: the outputs are predicted noise, and otherwise clean samples.
    """
    length = max(len(row.outputs) for row in (*predict, *correct))
    tables = [_table(rows, length) for rows in (predict, correct)]
    stochastic = any(row.noise for row in predict)

    def solve(denoise, noise, draw):
        def step(value, number, now, predict, correct):
            predicted, sample, outputs, last = value
            clean = denoise(predicted, now.time)
            output = noise_in(predicted, clean, now) if of_noise else clean
            outputs = (output, *outputs[:-1])
            sample = _add(correct, predicted, sample, outputs, last)
            last = draw(number) if stochastic else last
            return _add(predict, predicted, sample, outputs, last), sample, outputs, last

        now, _ = levels(process, times)
        start = begin(process, noise, now)
        nothing = jnp.zeros_like(start)
        value = start, nothing, (nothing,) * length, nothing
        return walk(step, value, now, *map(float32, tables))[0]

    return solve


def _table(rows: Sequence[Sum], length: int) -> Sum:
    """Return the rows as arrays, their outputs with zeros up to the length."""
    outputs = [tuple(row.outputs) + (0.0,) * (length - len(row.outputs)) for row in rows]
    sample, noise, predicted = (
        np.array([getattr(row, name) for row in rows]) for name in ("sample", "noise", "predicted")
    )
    return Sum(sample, np.array(outputs), noise, predicted)


def _add(row, predicted, sample, outputs, noise):
    """Return the weighted sum."""
    total = row.predicted * predicted + row.sample * sample + row.noise * noise
    return total + sum(row.outputs[index] * output for index, output in enumerate(outputs))
