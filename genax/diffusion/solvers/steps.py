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
from genax.diffusion.process import DiscreteProcess, Process


class Level(NamedTuple):
    """Time of one step, or times of all steps, with the process's signal and sigma."""

    time: Num[Array, "*steps"]
    signal: Float[Array, "*steps"]
    sigma: Float[Array, "*steps"]


def levels(process: Process, times: np.ndarray) -> tuple[Level, Level]:
    """Return the levels at which the steps begin, and those at which they end.

    The last step ends at the data (signal 1, sigma 0). Its time is not used.
    """
    at = jnp.asarray(times)
    now = Level(at, process.signal(at), process.sigma(at))
    data = Level(at[-1:], jnp.ones(1), jnp.zeros(1))
    return now, jax.tree.map(lambda begun, end: jnp.append(begun[1:], end), now, data)


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


def check_times(solver: str, process: Process, times: np.ndarray) -> np.ndarray:
    """Return the times.

    Raises GenaxError if there are none, if they do not fall, or if a discrete process lacks one.
    """
    times = np.asarray(times)
    if times.ndim != 1 or not len(times) or not np.all(np.diff(times) < 0):
        raise GenaxError(
            f"{solver}: times have to fall from noise to data, got {times}; see "
            "genax.diffusion.spacings."
        )
    if isinstance(process, DiscreteProcess):
        whole = np.issubdtype(times.dtype, np.integer)
        if not whole or times[0] >= process.num_timesteps or times[-1] < 0:
            raise GenaxError(
                f"{solver}: a discrete process has the whole numbers from 0 to "
                f"{process.num_timesteps - 1} as times, got {times}."
            )
    return times


def begin(process: Process, noise: Array, level: Level) -> Array:
    """Return the noise with which sampling from the first level begins."""
    return process.prior(level.time[:1])[0] * noise


def float32(tables: PyTree) -> PyTree:
    """Return tables, such as those of float64, as float32 arrays."""
    return jax.tree.map(lambda table: jnp.asarray(table, jnp.float32), tables)
