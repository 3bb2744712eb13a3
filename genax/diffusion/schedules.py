"""Variance schedules of discrete diffusion, in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np


def linear_betas(
    num_timesteps: int = 1000, start: float = 1e-4, end: float = 0.02, scaled: bool = False
) -> np.ndarray:
    """Evenly spaced beta_1 .. beta_T (Ho et al. 2020, section 4): float64 [T].

    The ends are meant for 1000 timesteps. Fewer timesteps with the same ends leave signal at the
    last one: 100 leave 36% of the variance.

    scaled: multiply both ends by 1000 / T, as the code of Nichol & Dhariwal 2021 does. The last
      timestep then has about the same signal for any T above 20.
    """
    factor = 1000 / num_timesteps if scaled else 1.0
    return np.linspace(factor * start, factor * end, num_timesteps, dtype=np.float64)


def scaled_linear_betas(
    num_timesteps: int = 1000, start: float = 0.00085, end: float = 0.012
) -> np.ndarray:
    """Squares of evenly spaced square roots of betas (Stable Diffusion): float64 [T]."""
    return np.linspace(start**0.5, end**0.5, num_timesteps, dtype=np.float64) ** 2


def cosine_betas(
    num_timesteps: int = 1000, offset: float = 0.008, largest: float = 0.999
) -> np.ndarray:
    """Betas whose products fall like a squared cosine: float64 [T].

    Nichol & Dhariwal 2021, eq. 17.

    offset: keeps the first betas from being too small. The s of the paper.
    largest: bound of a beta. Without it the last one would be 1.
    """
    shares = np.arange(num_timesteps + 1, dtype=np.float64) / num_timesteps
    products = np.cos((shares + offset) / (1 + offset) * np.pi / 2) ** 2
    return np.minimum(1 - products[1:] / products[:-1], largest)


def sigmoid_betas(num_timesteps: int = 1000, start: float = 1e-4, end: float = 0.02) -> np.ndarray:
    """Betas on a logistic curve from -6 to 6 (Xu et al. 2022, GeoDiff's code): float64 [T]."""
    return (end - start) / (1 + np.exp(-np.linspace(-6, 6, num_timesteps))) + start


def zero_terminal_snr(betas: np.ndarray) -> np.ndarray:
    """Return betas changed so that the last timestep has no signal (Lin et al. 2023, algorithm 1).

    The signal (square root of the products of 1 - beta) is shifted and scaled. The first timestep
    keeps its own. Noise cannot be predicted with such a process, see `check_prediction`.
    """
    signal = np.sqrt(np.cumprod(1 - np.asarray(betas, np.float64)))
    signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    return betas_of(signal**2)


def betas_of(products: np.ndarray) -> np.ndarray:
    """Return the betas whose products of 1 - beta up to each step are given: float64 [T]."""
    return 1 - products / np.append(1.0, products[:-1])


# What a setting `schedule` may be: T -> betas whose last timestep is nearly noise for any T.
SCHEDULES: Mapping[str, Callable[[int], np.ndarray]] = {
    "linear": partial(linear_betas, scaled=True),
    "cosine": cosine_betas,
}
