"""Spacings: the times that a solver steps through, from noise to data."""

from __future__ import annotations

import numpy as np

from genax.core.errors import GenaxError
from genax.diffusion.linear_flow import shifted


def linspace(num_timesteps: int, num_steps: int, whole: bool = True) -> np.ndarray:
    """Timesteps from T-1 to 0 at equal distances (Lin et al. 2023, table 2).

    whole: round to whole numbers. Otherwise they are fractional, as diffusers has them for solvers
      in sigma / signal.
    Raises GenaxError unless 1 <= num_steps <= num_timesteps.
    """
    _check_steps(num_timesteps, num_steps)
    timesteps = np.linspace(0, num_timesteps - 1, num_steps)[::-1]
    return timesteps.round().astype(int) if whole else timesteps


def leading(num_timesteps: int, num_steps: int, offset: int = 0) -> np.ndarray:
    """Timesteps 0, k, 2k, ... for k = T // num_steps, last first (Lin et al. 2023, table 2).

    offset: number that is added to all of them. Stable Diffusion has 1.
    Raises GenaxError unless 1 <= num_steps <= num_timesteps, and for an offset that leads out of
    the process.
    """
    _check_steps(num_timesteps, num_steps)
    timesteps = np.arange(num_steps)[::-1] * (num_timesteps // num_steps) + offset
    if not 0 <= timesteps[-1] <= timesteps[0] < num_timesteps:
        raise GenaxError(
            f"leading: offset={offset} leads to timesteps from {timesteps[-1]} to {timesteps[0]}, "
            f"but the process has those from 0 to {num_timesteps - 1}; choose another offset."
        )
    return timesteps


def trailing(num_timesteps: int, num_steps: int) -> np.ndarray:
    """Timesteps T-1, T-1-k, ... for k = T / num_steps (Lin et al. 2023, table 2).

    The first timestep has nothing but noise.
    Raises GenaxError unless 1 <= num_steps <= num_timesteps.
    """
    _check_steps(num_timesteps, num_steps)
    remaining = np.arange(num_steps, 0, -1)
    return np.round(remaining * num_timesteps / num_steps).astype(int) - 1


def karras(
    num_steps: int, smallest: float = 0.002, largest: float = 80.0, rho: float = 7.0
) -> np.ndarray:
    """Standard deviations from `largest` to `smallest` (Karras et al. 2022, eq. 5): float64.

    They are times of `VarianceExploding`. For another process they are values of sigma / signal,
    whose times `process.time_of` finds. The solver makes the step from the last one to the data.

    num_steps: number of standard deviations.
    rho: exponent of the spacing.
    Raises GenaxError for fewer than 2 steps, and unless 0 < smallest < largest.
    """
    _check_ends("karras", num_steps, smallest, largest)
    ends = largest ** (1 / rho), smallest ** (1 / rho)
    return np.linspace(*ends, num_steps, dtype=np.float64) ** rho


def exponential(num_steps: int, smallest: float, largest: float) -> np.ndarray:
    """Standard deviations from `largest` to `smallest` at equal ratios: float64, see `karras`.

    Raises GenaxError for fewer than 2 steps, and unless 0 < smallest < largest.
    """
    _check_ends("exponential", num_steps, smallest, largest)
    return np.geomspace(largest, smallest, num_steps, dtype=np.float64)


def flow(num_steps: int, shift: float = 1.0, smallest: float | None = None) -> np.ndarray:
    """Times of a straight path from noise (1) to data (0), to which the last step goes: float64.

    shift: see `shifted`. Above 1 there are more steps close to the noise.
    smallest: last time before the shift. None is 1 / num_steps, so that all steps are equally long
      before the shift. diffusers has 0.001.
    Raises GenaxError for less than one step, a shift that is not above 0, and unless
    0 < smallest < 1.
    """
    smallest = 1 / max(num_steps, 1) if smallest is None else smallest
    if num_steps < 1 or not shift > 0 or not 0 < smallest <= 1 or (num_steps > 1 and smallest == 1):
        raise GenaxError(
            f"flow: {num_steps} steps from 1 to {smallest} with shift={shift}: it needs at least 1 "
            "step, a shift above 0, and 0 < smallest < 1."
        )
    return shifted(np.linspace(1.0, smallest, num_steps), shift)


def _check_ends(spacing: str, num_steps: int, smallest: float, largest: float) -> None:
    if num_steps < 2 or not 0 < smallest < largest:
        raise GenaxError(
            f"{spacing}: {num_steps} steps from {largest} to {smallest}: it needs at least 2 "
            "steps, and 0 < smallest < largest."
        )


def _check_steps(num_timesteps: int, num_steps: int) -> None:
    if not 1 <= num_steps <= num_timesteps:
        raise GenaxError(
            f"{num_steps} sampling steps of a process of {num_timesteps} timesteps: choose between "
            f"1 and {num_timesteps}."
        )
