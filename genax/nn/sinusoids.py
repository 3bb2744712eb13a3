"""Sinusoidal positions."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def sinusoids(length: int, width: int, halves: bool = False) -> Float[np.ndarray, "length width"]:
    """sin(p / 10000^(2i / width)) and its cosine, float32: Vaswani et al. 2017, section 3.5.

    Sines at even and cosines at odd places as in the paper, or, halves, all sines first as in its
    published code and Marian's.
    """
    rates = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angles = np.arange(length)[:, None] * rates
    table = np.zeros((length, width), np.float32)
    middle = len(rates)
    sines, cosines = (
        (slice(middle), slice(middle, None)) if halves else (slice(0, None, 2), slice(1, None, 2))
    )
    table[:, sines] = np.sin(angles)
    table[:, cosines] = np.cos(angles)[:, : width // 2]
    return table
