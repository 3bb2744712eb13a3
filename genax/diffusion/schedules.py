"""Variance schedules of discrete diffusion, in float64."""

from __future__ import annotations

import numpy as np


def linear_betas(num_timesteps: int = 1000, start: float = 1e-4, end: float = 0.02) -> np.ndarray:
    """Evenly spaced beta_1 .. beta_T (Ho et al. 2020, section 4): float64 [T]."""
    return np.linspace(start, end, num_timesteps, dtype=np.float64)
