"""Grey images as images of zeros and ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from genax.core.data import BatchIterator, Shard
from genax.core.errors import GenaxError
from genax.data.changed import Batch, Changed, Derived
from genax.data.shuffling import uniforms
from genax.data.within import check_within
from genax.settings.ranges import SHARE, check_fields

# How a pixel becomes a zero or a one.
BINARISATIONS = ("static", "dynamic", "threshold")
# Which uniform numbers: those of a record, and those of one reading of it.
_OF_RECORDS, _OF_READINGS = 5, 6


@dataclass(frozen=True)
class Binarised(Derived):
    """A data set whose pixels are drawn to be zeros or ones.

    A likelihood of binary images is one of such data alone, and scores of different binarisations
    are not to be compared: static and dynamic ones of MNIST differ by one or two nats.

    data: with an "image" in [0, 1], read as probabilities of a one.
    how: "dynamic", drawn anew at each reading in training (Burda et al. 2016, section 5);
      "static", drawn once for each record by its number; or "threshold", a one if the pixel is
      above `threshold`. An evaluation reads one and the same draw of each record, whichever of the
      first two it is, so that scores of several steps and runs are of the same images.
    threshold: for how="threshold".
    seed: of what is drawn once. That of readings is the run's.
    """

    how: str = "dynamic"
    threshold: float = 0.5
    seed: int = 0

    def __post_init__(self):
        check_fields(self, threshold=SHARE)
        if self.how not in BINARISATIONS:
            raise GenaxError(f"Binarised: how={self.how!r} is none of {', '.join(BINARISATIONS)}.")
        if "image" not in self.data.element:
            raise GenaxError(
                f"{self.data} has no 'image', of which Binarised makes zeros and ones."
            )

    @property
    def is_augmented(self) -> bool:
        """Whether training changes images at random."""
        return self.how == "dynamic" or super().is_augmented

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the data and all that decides what is drawn."""
        parts: tuple = ("threshold", self.threshold) if self._cut else (self.how, self.seed)
        return hashlib.sha256(repr((self.data.fingerprint(), *parts)).encode()).hexdigest()

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless shuffled batches, in the order of the grey images.

        A draw belongs to the position of an example, so a run goes on with the same ones on any
        number of processes.
        """

        def change(batch: Batch, first: int) -> Batch:
            if self.how != "dynamic":
                return self._fixed(batch)
            local = len(batch["image"])
            positions = first + shard.number * local + np.arange(local, dtype=np.int64)
            return self._drawn(batch, positions, seed, _OF_READINGS)

        return Changed(self.data.train(batch_size, seed, shard), change)

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Batch]:
        """Every example once, in order, with "mask"."""
        return (self._fixed(batch) for batch in self.data.evaluate(batch_size, shard))

    @property
    def _cut(self) -> bool:
        return self.how == "threshold"

    def _fixed(self, batch: Batch) -> Batch:
        """The batch of images that are the same at each reading."""
        if self._cut:
            check_within(batch["image"], 0.0, 1.0, self.data)
            return {**batch, "image": (batch["image"] > self.threshold).astype(np.float32)}
        ids = batch.get("id")
        if ids is None or ids.ndim != 1:
            raise GenaxError(
                f"examples of {self.data} have no single number in 'id', by which Binarised draws "
                "what stays the same; choose how='threshold', or data of one source."
            )
        return self._drawn(batch, ids, self.seed, _OF_RECORDS)

    def _drawn(self, batch: Batch, numbers: np.ndarray, *entropy: int) -> Batch:
        image = batch["image"]
        check_within(image, 0.0, 1.0, self.data)
        drawn = uniforms(numbers, int(np.prod(image.shape[1:])), *entropy).reshape(image.shape)
        return {**batch, "image": (drawn < image).astype(np.float32)}
