"""Images of a data set at a lower resolution."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from genax.core.data import BatchIterator, Shard
from genax.core.errors import GenaxError
from genax.data.changed import Batch, Changed, Derived
from genax.settings.ranges import COUNT, check_fields


@dataclass(frozen=True)
class Reduced(Derived):
    """A data set whose images are means of factor x factor pixels.

    Several of them share the records of one set, such as the stages of a progressive GAN.

    data: with an "image" [h, w, c].
    factor: divides height and width.
    """

    factor: int

    def __post_init__(self):
        check_fields(self, factor=COUNT)
        if "image" not in self.data.element or len(self.data.element["image"].shape) != 3:
            raise GenaxError(f"{self.data} has no 'image' [h, w, c], which Reduced makes smaller.")
        height, width, _ = self.data.element["image"].shape
        if height % self.factor or width % self.factor:
            raise GenaxError(
                f"images of {height}x{width} are no whole number of {self.factor}x{self.factor} "
                "pixels; choose another size."
            )

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of one example."""
        found = dict(self.data.element)
        height, width, channels = found["image"].shape
        shape = (height // self.factor, width // self.factor, channels)
        return found | {"image": jax.ShapeDtypeStruct(shape, found["image"].dtype)}

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the data and the factor."""
        key = (self.data.fingerprint(), self.factor)
        return hashlib.sha256(repr(key).encode()).hexdigest()

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless shuffled batches, in the order of the larger images."""
        batches = self.data.train(batch_size, seed, shard)
        return Changed(batches, lambda batch, _: _reduced(batch, self.factor))

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Mapping[str, np.ndarray]]:
        """Every example once, in order, with "mask"."""
        for batch in self.data.evaluate(batch_size, shard):
            yield _reduced(batch, self.factor)


def _reduced(batch: Batch, factor: int) -> Batch:
    image = batch["image"]
    b, height, width, channels = image.shape
    parts = image.reshape(b, height // factor, factor, width // factor, factor, channels)
    return {**batch, "image": parts.mean((2, 4), dtype=image.dtype)}
