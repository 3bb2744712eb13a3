"""Spacings: the times that a solver steps through, from noise to data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from genax.core.errors import GenaxError

# (T, number of steps) -> falling timesteps of a discrete process.
Spacing = Callable[[int, int], np.ndarray]


def leading(num_timesteps: int, num_steps: int) -> np.ndarray:
    """Timesteps 0, k, 2k, ... for k = T // num_steps, last first (Lin et al. 2023, table 2).

    Raises GenaxError unless 1 <= num_steps <= num_timesteps.
    """
    _check_steps(num_timesteps, num_steps)
    return np.arange(num_steps)[::-1] * (num_timesteps // num_steps)


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

    They are times of `VarianceExploding`. The solver makes the step from the last one to 0.

    num_steps: number of standard deviations.
    rho: exponent of the spacing.
    Raises GenaxError for fewer than 2 steps, and unless 0 < smallest < largest.
    """
    if num_steps < 2 or not 0 < smallest < largest:
        raise GenaxError(
            f"karras: {num_steps} steps from {largest} to {smallest}: it needs at least 2 steps, "
            "and 0 < smallest < largest."
        )
    ends = largest ** (1 / rho), smallest ** (1 / rho)
    return np.linspace(*ends, num_steps, dtype=np.float64) ** rho


def _check_steps(num_timesteps: int, num_steps: int) -> None:
    if not 1 <= num_steps <= num_timesteps:
        raise GenaxError(
            f"{num_steps} sampling steps of a process of {num_timesteps} timesteps: choose between "
            f"1 and {num_timesteps}."
        )
