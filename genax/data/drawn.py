"""Examples drawn at random of a data set, to measure a large set by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from genax.core.data import BatchIterator, Data, Shard
from genax.core.errors import GenaxError
from genax.settings.ranges import AMOUNT, COUNT, check_fields


@dataclass(frozen=True)
class Drawn:
    """The first examples of a data set in a shuffled order, always the same ones.

    They are different ones if the set has as many.

    data: whose training changes no example at random.
    count: how many are drawn.
    """

    data: Data
    count: int
    seed: int = 0

    def __post_init__(self):
        check_fields(self, count=COUNT, seed=AMOUNT)
        if getattr(self.data, "is_augmented", False):
            raise GenaxError(f"Drawn draws examples as they are, but {self.data} changes them.")

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of one example."""
        return self.data.element

    @property
    def says(self) -> Sequence[str]:
        """What a run tells its user of the data."""
        return getattr(self.data, "says", ())

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the data, the count and the seed."""
        key = (self.data.fingerprint(), self.count, self.seed)
        return hashlib.sha256(repr(key).encode()).hexdigest()

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless shuffled batches of the whole data set."""
        return self.data.train(batch_size, seed, shard)

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Mapping[str, np.ndarray]]:
        """Every drawn example once, with "mask"."""
        batches = self.data.train(batch_size, self.seed, shard)
        local = batch_size // shard.count
        for first in range(0, self.count, batch_size):
            numbers = first + shard.number * local + np.arange(local)
            yield {**next(batches), "mask": (numbers < self.count).astype(np.float32)}
