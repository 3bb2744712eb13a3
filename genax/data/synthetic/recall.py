"""Sequences that ask for some of their own tokens at the end."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Int

from genax.core.data import BatchIterator, Shard
from genax.core.errors import GenaxError
from genax.data import pipeline
from genax.settings.ranges import AMOUNT, COUNT, check_fields

# Records of a set that a training never reads twice.
ENDLESS = 2**40


@dataclass(frozen=True)
class RecallData:
    """Sequences "tokens" int32 [t], whose last m positions are to be answered by "answers" [m].

    A record is a function of its number and of `seed`, on any machine and by any version of NumPy.
    So sets of two seeds are a training and a test set.

    length: how long a sequence is; see the subclass.
    vocab_size: tokens, those of special meaning included.
    size: records. A training reads every one once before any comes again.
    seed: which sequences.
    """

    length: int
    vocab_size: int = 16
    size: int = ENDLESS
    seed: int = 0

    def __post_init__(self):
        check_fields(self, length=COUNT, vocab_size=COUNT, seed=AMOUNT)
        if self.size < 1:
            raise GenaxError(f"{type(self).__name__}: size={self.size} must be at least 1.")

    @property
    @abstractmethod
    def total(self) -> int:
        """Tokens of a sequence."""

    @property
    @abstractmethod
    def num_answers(self) -> int:
        """Positions that are answered, the last of a sequence."""

    @abstractmethod
    def make(
        self, ids: Int[np.ndarray, " b"]
    ) -> tuple[Int[np.ndarray, "b t"], Int[np.ndarray, "b m"]]:
        """Return the tokens and the answers of records by their numbers."""

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of one sequence."""
        shapes = {"tokens": (self.total,), "answers": (self.num_answers,)}
        return {name: jax.ShapeDtypeStruct(shape, np.int32) for name, shape in shapes.items()}

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the settings and the first sequence, which tells how they are made."""
        first = b"".join(array.tobytes() for array in self._read(np.arange(1)).values())
        return hashlib.sha256(repr(self).encode() + first).hexdigest()

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless shuffled batches of this process."""
        return pipeline.train_batches(self._read, self.size, batch_size, seed, shard)

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Mapping[str, np.ndarray]]:
        """Every sequence once, in order, with "mask"."""
        return pipeline.evaluation_batches(self._read, self.size, batch_size, shard)

    def _read(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        tokens, answers = self.make(ids)
        return {"tokens": tokens.astype(np.int32), "answers": answers.astype(np.int32)}
