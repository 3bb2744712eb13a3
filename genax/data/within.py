"""Images that are held to lie within a range, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from genax.core.data import BatchIterator, Shard
from genax.core.errors import GenaxError
from genax.data.changed import Batch, Changed, Derived

# Rounding may leave a range by a little.
_SLACK = 1e-4


@dataclass(frozen=True)
class Within(Derived):
    """A data set whose images are refused if they leave a range.

    It is for data that a caller gives, of whose range nothing is known before it is read.

    data: with an "image".
    least, most: the range's ends, which belong to it.
    """

    least: float = 0.0
    most: float = 1.0

    def fingerprint(self) -> str:
        """That of the data, which is not changed."""
        return self.data.fingerprint()

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless shuffled batches. Raises GenaxError for one that leaves the range."""
        return Changed(self.data.train(batch_size, seed, shard), lambda batch, _: self._held(batch))

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Batch]:
        """Every example once, in order, with "mask"."""
        return (self._held(batch) for batch in self.data.evaluate(batch_size, shard))

    def _held(self, batch: Batch) -> Batch:
        check_within(batch["image"], self.least, self.most, self.data)
        return batch


def check_range(data: Any) -> None:
    """Raise GenaxError for images of a data set that says another range than [-1, 1].

    Of data with `sources`, such as `Joined`, each one is checked.
    """
    for source in dict(getattr(data, "sources", ())).values():
        check_range(source)
    ends = tuple(getattr(data, "range", (-1.0, 1.0)))
    if ends != (-1, 1):
        raise GenaxError(
            f"images of {getattr(data, 'name', data)} have the range {ends}, but networks are "
            "trained on images in [-1, 1] and make such; give the data with range=(-1.0, 1.0)."
        )


def check_within(image: np.ndarray, least: float, most: float, data: Any) -> None:
    """Raise GenaxError for images of a data set that leave a range, or are not numbers."""
    low, high = float(image.min()), float(image.max())
    if not (low >= least - _SLACK and high <= most + _SLACK):
        raise GenaxError(
            f"images of {getattr(data, 'name', data)!s:.100} go from {low:.4g} to {high:.4g}, but "
            f"they are read as numbers from {least:g} to {most:g}; scale them, for ImageData by "
            f"range=({least}, {most})."
        )
