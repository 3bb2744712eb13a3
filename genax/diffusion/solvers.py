"""Solvers: ways from noise to samples around one denoising function.

Each solver is one compiled loop for any number of steps. A new solver is a function of the same
kind in any file, see `genax.diffusion.sampling.Solver`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num, PyTree

from genax.core import GenaxError
from genax.diffusion.process import DiscreteProcess, Process, fixed_large
from genax.diffusion.sampling import Solver


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


def ancestral(
    process: DiscreteProcess,
    variance: Callable[[DiscreteProcess], np.ndarray] = fixed_large,
) -> Solver:
    """All T steps of the reverse chain (Ho et al. 2020, algorithm 2), the last without noise.

    variance: variances of the steps, `fixed_small`, `fixed_large` or another function to a table
      [T].
    """
    deviations = np.sqrt(variance(process))
    deviations[0] = 0.0
    timesteps = np.arange(process.num_timesteps)[::-1]

    def solve(denoise, noise, draw):
        def step(noisy, number, timestep, deviation):
            now = jnp.full(len(noisy), timestep)
            mean = process.posterior_mean(denoise(noisy, timestep), noisy, now)
            return mean + deviation * draw(number)

        return walk(step, noise, jnp.asarray(timesteps), _float32(deviations[::-1]))

    return solve


class DDIMCoefficients(NamedTuple):
    """Factors of the steps of DDIM.

    signal: factor of the clean samples.
    direction: factor of their predicted noise.
    deviation: factor of new noise.
    """

    signal: Any
    direction: Any
    deviation: Any


def ddim_coefficients(
    process: DiscreteProcess, timesteps: np.ndarray, eta: float = 0.0
) -> DDIMCoefficients:
    """Return the factors of the steps through falling timesteps to the data.

    Each is float64 [num_steps]. Song et al. 2021, eq. 12 and 16 (whose alpha is alphas_cumprod).
    Raises GenaxError for an eta below 0, or above 1, with which a step would add more noise than
    there is at its end.
    """
    if not 0 <= eta <= 1:
        raise GenaxError(
            f"eta={eta} of DDIM has to be from 0 to 1: 0 adds no noise, 1 as much as DDPM."
        )
    now = process.alphas_cumprod[timesteps]
    before = np.append(now[1:], 1.0)
    deviation = eta * np.sqrt((1 - before) / (1 - now) * (1 - now / before))
    direction = np.sqrt(np.maximum(1 - before - deviation**2, 0.0))
    return DDIMCoefficients(np.sqrt(before), direction, deviation)


def ddim(process: DiscreteProcess, timesteps: np.ndarray, eta: float = 0.0) -> Solver:
    """Denoising diffusion implicit models (Song et al. 2021, eq. 12).

    The predicted noise is the one that belongs to the clean samples after clipping.

    timesteps: falling timesteps, such as `leading` returns.
    eta: 0 is deterministic after the first noise. 1 has the variances of DDPM.
    Raises GenaxError for times that do not fall, and for an eta that is not from 0 to 1.
    """
    timesteps = check_times("ddim", process, timesteps)
    coefficients = ddim_coefficients(process, timesteps, eta)

    def solve(denoise, noise, draw):
        def step(noisy, number, now, row):
            clean = denoise(noisy, now.time)
            x = row.signal * clean + row.direction * noise_in(noisy, clean, now)
            return x + row.deviation * draw(number) if eta else x

        now, _ = levels(process, timesteps)
        return walk(step, noise, now, _float32(coefficients))

    return solve


def euler(process: Process, times: np.ndarray) -> Solver:
    """Euler's first-order method on the probability flow of any process.

    With a `DiscreteProcess` it is `ddim` without noise. With `VarianceExploding` it is algorithm 1
    of Karras et al. 2022 without the correction.

    times: falling times. The last step goes to the data.
    Raises GenaxError for times that `check_times` refuses.
    """
    times = check_times("euler", process, times)

    def solve(denoise, noise, draw):
        def step(noisy, number, now, after):
            clean = denoise(noisy, now.time)
            return after.signal * clean + after.sigma * noise_in(noisy, clean, now)

        now, after = levels(process, times)
        return walk(step, begin(process, noise, now), now, after)

    return solve


def heun(process: Process, times: np.ndarray) -> Solver:
    """Heun's second-order method on the probability flow (Karras et al. 2022, algorithm 1).

    n steps take 2n - 1 evaluations, since the last step, to the data, is Euler's.

    times: falling times, such as `karras` returns. The process must have some signal at all of
      them.
    Raises GenaxError for times that `check_times` refuses.
    """
    times = check_times("heun", process, times)

    def solve(denoise, noise, draw):
        def step(noisy, number, now, after):
            clean = denoise(noisy, now.time)
            slope = noise_in(noisy, clean, now)
            first = after.signal * clean + after.sigma * slope

            def corrected():
                other = noise_in(first, denoise(first, after.time), after)
                ratio = after.signal / now.signal
                return ratio * noisy + (after.sigma - ratio * now.sigma) * (slope + other) / 2

            return lax.cond(after.sigma > 0, corrected, lambda: first)

        now, after = levels(process, times)
        return walk(step, begin(process, noise, now), now, after)

    return solve


def _float32(tables: PyTree) -> PyTree:
    return jax.tree.map(lambda table: jnp.asarray(table, jnp.float32), tables)
