"""Sinusoidal position embeddings."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def sinusoids(length: int, width: int, halves: bool = False) -> Float[np.ndarray, "length width"]:
    """Return sin(p / 10000^(2i / width)) and its cosine, float32: Vaswani et al. 2017, section 3.5.

    length: number of positions p.
    width: numbers per position.
    halves: put all sines first, as in the paper's published code and Marian's. Otherwise sines
      stand at even and cosines at odd places, as in the paper.
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
