"""Distributions as parts of whole numbers, which `Stack` codes: latents in buckets, and levels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr, ndtri

from genax.vae.compression.ans import Numbers

Rows = Int[np.ndarray, "*shape"]
Find = Callable[[Numbers], tuple[Numbers, Numbers, Numbers]]


@dataclass(frozen=True)
class Buckets:
    """N(0, 1) cut into 2^bits buckets of equal mass, and posteriors over them.

    A latent is a bucket's number, and stands for the bucket's median.

    bits: of a number.
    precision: of the posteriors' frequencies, in bits.
    """

    bits: int = 12
    precision: int = 24

    def values(self, numbers: Rows) -> Float[np.ndarray, "*shape"]:
        """Return the medians, float32."""
        return ndtri((numbers + 0.5) / (1 << self.bits)).astype(np.float32)

    def prior(self, place: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Return the bucket of numbers in [0, 2^bits), each of which is one."""
        return place, place, np.ones_like(place)

    def start(self, numbers: Rows, mean: np.ndarray, deviation: np.ndarray) -> Rows:
        """Return where the buckets' parts start, of frequencies that follow N(mean, deviation^2).

        Two of 2^precision go to each bucket beforehand, so that none is impossible, and rounding
        takes no bucket's last one.
        """
        edges = ndtr((ndtri(numbers / (1 << self.bits)) - mean) / deviation)
        spread = (1 << self.precision) - (2 << self.bits)
        return np.floor(edges * spread).astype(np.int64) + 2 * numbers

    def part(self, numbers: Rows, mean: np.ndarray, deviation: np.ndarray) -> tuple[Rows, Rows]:
        """Return the start and the frequency of each bucket."""
        start = self.start(numbers, mean, deviation)
        return start, self.start(numbers + 1, mean, deviation) - start

    def posterior(self, mean: np.ndarray, deviation: np.ndarray) -> Find:
        """Return the function that `Stack.pop` finds buckets by.

        mean, deviation: float64 [k], of each lane's latent.
        """

        def find(place: Numbers) -> tuple[Numbers, Numbers, Numbers]:
            low = np.zeros_like(place)
            for bit in reversed(range(self.bits)):
                middle = low + (1 << bit)
                low = np.where(self.start(middle, mean, deviation) <= place, middle, low)
            return low, *self.part(low, mean, deviation)

        return find


def level_starts(
    log_masses: Float[np.ndarray, "*shape levels"], precision: int
) -> Int[np.ndarray, "*shape ends"]:
    """Return where the parts of levels start in [0, 2^precision), and then its end.

    Each level gets one, what is left in proportion to its mass, and the likeliest level the rest.

    log_masses: logarithms of each level's probability, in nats.
    """
    levels = log_masses.shape[-1]
    masses = np.exp(log_masses.astype(np.float64))
    masses /= masses.sum(-1, keepdims=True)
    frequencies = np.floor(masses * ((1 << precision) - levels)).astype(np.int64) + 1
    rest = (1 << precision) - frequencies.sum(-1, keepdims=True)
    likeliest = masses.argmax(-1, keepdims=True)
    most = np.take_along_axis(frequencies, likeliest, -1)
    np.put_along_axis(frequencies, likeliest, most + rest, -1)
    ends = np.cumsum(frequencies, -1)
    return np.concatenate([np.zeros_like(ends[..., :1]), ends], -1)


def level_part(starts: Int[np.ndarray, "k ends"], levels: Numbers) -> tuple[Numbers, Numbers]:
    """Return the start and the frequency of each lane's level."""
    lanes = np.arange(len(levels))
    return starts[lanes, levels], starts[lanes, levels + 1] - starts[lanes, levels]


def find_level(starts: Int[np.ndarray, "k ends"]) -> Find:
    """Return the function that `Stack.pop` finds levels by."""

    def find(place: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        levels = (starts <= place[:, None]).sum(-1) - 1
        return levels, *level_part(starts, levels)

    return find
