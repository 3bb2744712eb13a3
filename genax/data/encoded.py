"""What a trained network makes of a data set that changes at random, at each reading."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from genax.core.data import BatchIterator, Shard
from genax.data.changed import Batch, Changed, Derived
from genax.data.latents import Encoder, Latents, Rows, encoded_element


@dataclass(frozen=True)
class Encoded(Derived):
    """Latents of a data set, made batch by batch as it is read: "latent" of `Latents`.

    It is for data that changes at random, of which no cache can be made. The network has to give a
    "latent", and no distribution of them.

    data: as the network was trained on it.
    encoder: the network.
    """

    encoder: Encoder

    @cached_property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of one example; loads no weights and reads no data."""
        return encoded_element(self.data, self.encoder)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the data and the network."""
        key = ("encoded", self.data.fingerprint(), self.encoder.fingerprint())
        return hashlib.sha256(repr(key).encode()).hexdigest()

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless shuffled batches, in the order of the data."""
        batches = self.data.train(batch_size, seed, shard)
        return Changed(batches, lambda batch, _: self._made(batch))

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Batch]:
        """Every example once, in order, with "mask"."""
        return (self._made(batch) for batch in self.data.evaluate(batch_size, shard))

    @cached_property
    def _encode(self) -> Callable[[Rows], Rows]:
        return self.encoder.load()

    def _made(self, batch: Batch) -> dict[str, np.ndarray]:
        kept = {name: rows for name, rows in batch.items() if name not in self.encoder.inputs}
        return {**kept, "latent": self._encode(batch)["latent"]}


def latents_of(data: Any, encoder: Encoder) -> Latents | Encoded:
    """Return the latents of a data set: kept once they are made, unless it changes at random."""
    kind = Encoded if getattr(data, "is_augmented", False) else Latents
    return kind(data, encoder)
