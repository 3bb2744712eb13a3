"""What solvers are made of: levels of noise, one compiled loop, and the checks of times."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num, PyTree

from genax.core import GenaxError
from genax.diffusion.process import DiscreteProcess, Invertible, Process


class Level(NamedTuple):
    """Time of one step, or times of all steps, with the process's signal and sigma."""

    time: Num[Array, "*steps"]
    signal: Float[Array, "*steps"]
    sigma: Float[Array, "*steps"]


def level_at(process: Process, times: Num[Array, "*steps"] | np.ndarray) -> Level:
    """Return the levels of times."""
    at = jnp.asarray(times)
    return Level(at, process.signal(at), process.sigma(at))


def levels(
    process: Process, times: np.ndarray, end: float | int | None = None
) -> tuple[Level, Level]:
    """Return the levels at which the steps begin, and those at which they end.

    end: time at which the last step ends. None is the data (signal 1, sigma 0, at a time that no
      step uses).
    """
    now = level_at(process, times)
    if end is None:
        last = Level(now.time[-1:], jnp.ones(1), jnp.zeros(1))
    else:
        last = level_at(process, np.asarray([end], now.time.dtype))
    return now, jax.tree.map(lambda begun, at_end: jnp.append(begun[1:], at_end), now, last)


def walk(step: Callable[..., PyTree], start: PyTree, *rows: PyTree) -> PyTree:
    """Apply `step` to `start` once per row, and return the last value.

    step: (value, number of the step from 1 on, one row of each of `rows`) -> value.
    start: the first value: the sample, or a tuple of the sample and a history.
    rows: tables of equal length, one row per step.
    """
    numbers = jnp.arange(1, len(jax.tree.leaves(rows)[0]) + 1)
    return lax.scan(lambda value, row: (step(value, *row), None), start, (numbers, *rows))[0]


def noise_in(noisy: Array, clean: Array, level: Level) -> Array:
    """Return the noise that turns `clean` into `noisy`.

    It is the slope of noisy / signal over sigma / signal (Song et al. 2021, eq. 14).
    """
    return (noisy - level.signal * clean) / level.sigma


def transfer(noisy: Array, noise: Array, now: Level, after: Level) -> Array:
    """Return the samples at another level if all steps of the way had the same predicted noise.

    It is exact for noisy / signal, whose slope over sigma / signal is the noise. There must be
    signal at `now`.
    """
    ratio = after.signal / now.signal
    return ratio * noisy + (after.sigma - ratio * now.sigma) * noise


def exact_sum(weights: Float[Array, " k"], arrays: Float[Array, "k ..."]) -> Float[Array, "..."]:
    """Return the sum of arrays times their weights; a device's default product may have 8 bits."""
    return jnp.tensordot(weights, arrays, 1, precision=lax.Precision.HIGHEST)


def check_times(
    solver: str,
    process: Process,
    times: np.ndarray,
    end: float | int | None = None,
    needs_signal: bool = False,
) -> np.ndarray:
    """Return the times.

    end: see `levels`.
    needs_signal: whether the solver divides by the signal.
    Raises GenaxError if there are none, if they do not fall, also to the end, if a process lacks
      one by its number of timesteps or its `largest_time`, if there is no noise at one of them,
      and if a signal is needed that is not there.
    """
    times = np.asarray(times)
    if times.ndim != 1 or not len(times) or not np.all(np.diff(times) < 0):
        raise GenaxError(
            f"{solver}: times have to fall from noise to data, got {times}; see "
            "genax.diffusion.spacings."
        )
    last = times[-1] if end is None else end
    if last > times[-1]:
        raise GenaxError(
            f"{solver}: the last step goes from time {times[-1]} to {end}; choose an end that is "
            "not above the last of the times, or None for the data."
        )
    if isinstance(process, DiscreteProcess) and (
        not times[0] <= process.num_timesteps - 1 or not last >= 0
    ):
        raise GenaxError(
            f"{solver}: a discrete process has times from 0 to {process.num_timesteps - 1}, got "
            f"{times} and the end {end}."
        )
    largest = getattr(process, "largest_time", None)
    if largest is not None and not (times[0] <= largest * (1 + 1e-6) and last >= 0):
        raise GenaxError(
            f"{solver}: times of a {type(process).__name__} are from 0 to {largest:g}, got {times} "
            f"and the end {end}; see genax.diffusion.spacings."
        )
    # Also within jit, times are constants.
    with jax.ensure_compile_time_eval():
        _, signal, sigma = jax.tree.map(np.asarray, level_at(process, times))
    if not np.all(sigma > 0):
        raise GenaxError(
            f"{solver}: there is no noise at time {times[sigma <= 0][0]}, so nothing is left to "
            "predict; leave that time out, since the last step goes to the data anyway."
        )
    if needs_signal and not np.all(signal > 0):
        raise GenaxError(
            f"{solver}: there is no signal at time {times[signal <= 0][0]}, by which it divides; "
            "leave that time out, or take euler, ddim or flow_heun."
        )
    return times


def check_eta(solver: str, eta: float) -> None:
    """Raise GenaxError for less noise than none, and for more than there is after a step."""
    if not 0 <= eta <= 1:
        raise GenaxError(
            f"{solver}: eta={eta} has to be from 0 to 1: 0 adds no noise, 1 as much as DDPM."
        )


def check_invertible(solver: str, process: Process) -> Invertible:
    """Return the process, which finds the time of an amount of noise.

    Raises GenaxError for another one.
    """
    if not isinstance(process, Invertible):
        raise GenaxError(
            f"{solver} needs the time of an amount of noise, but {type(process).__name__} has no "
            "method time_of(ratios); add it, or take heun without churn."
        )
    return process


def begin(process: Process, noise: Array, level: Level) -> Array:
    """Return the noise with which sampling from the first level begins."""
    return process.prior(level.time[:1])[0] * noise


def float32(tables: PyTree) -> PyTree:
    """Return tables, such as those of float64, in the default precision of floats: float32."""
    return jax.tree.map(lambda table: jnp.asarray(table, float), tables)
