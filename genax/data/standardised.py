"""Images or series in units of their mean and standard deviation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from genax.core.data import BatchIterator, Data, Shard
from genax.core.errors import GenaxError
from genax.data.changed import Batch, Changed, Derived

_READ_AT_A_TIME = 1_000


@dataclass(frozen=True)
class Standardised(Derived):
    """A data set whose images have the mean 0 and the deviation 1 of another's, in each channel.

    data: with an "image" [h, w, c].
    by: whose images the mean and the deviation are of, over images and places; None is `data`. A
      detector's are those of its training data, of which its test data have no part.
    """

    by: Data | None = None

    @cached_property
    def moments(self) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
        """Mean and standard deviation of each channel, in float64.

        Raises GenaxError for a constant channel.
        """
        source, count = self.data if self.by is None else self.by, 0
        sums = np.zeros((2, source.element["image"].shape[-1]))
        for batch in source.evaluate(_READ_AT_A_TIME, Shard()):
            image = batch["image"][batch["mask"] > 0].astype(np.float64)
            count += image[..., 0].size
            sums += np.stack([image.sum((0, 1, 2)), np.square(image).sum((0, 1, 2))])
        mean, square = sums / count
        variance = square - mean**2
        if not (variance > 1e-12 * square).all():
            raise GenaxError(
                f"a channel of {source!s:.200} is the same number everywhere, so nothing can be "
                "standardised by it; choose other data."
            )
        return mean, np.sqrt(variance)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the data, and those that it is standardised by."""
        by = None if self.by is None else self.by.fingerprint()
        key = ("standardised", self.data.fingerprint(), by)
        return hashlib.sha256(repr(key).encode()).hexdigest()

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless shuffled batches."""
        batches = self.data.train(batch_size, seed, shard)
        return Changed(batches, lambda batch, _: self._changed(batch))

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Batch]:
        """Every example once, in order, with "mask"."""
        return (self._changed(batch) for batch in self.data.evaluate(batch_size, shard))

    def _changed(self, batch: Batch) -> Batch:
        mean, deviation = self.moments
        return {**batch, "image": ((batch["image"] - mean) / deviation).astype(np.float32)}
