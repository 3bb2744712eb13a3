"""The contract between the loop and the data: positions that can be saved, batches that repeat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np


@dataclass(frozen=True)
class Shard:
    """The part of each global batch that a process reads: `number` of `count` equal parts."""

    number: int = 0
    count: int = 1


@runtime_checkable
class BatchIterator(Protocol):
    """An endless iterator over process-local batches of numpy arrays, leading axis first.

    Each batch also holds "id": int64, the record numbers, which never reach the device.
    """

    def __next__(self) -> Mapping[str, np.ndarray]: ...

    def get_state(self) -> Any:
        """The position after the last batch given out: a JSON value.

        It counts examples, since a stage may go on from it with batches of another size.
        """
        ...

    def set_state(self, state: Any) -> None:
        """Continue from a saved position."""
        ...


@runtime_checkable
class Data(Protocol):
    """A data set as an experiment names it; `element` needs nothing on disk."""

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one example's arrays, without batch axis and without "id"."""
        ...

    def fingerprint(self) -> str:
        """A text that changes whenever the content or its order would."""
        ...

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless batches of this process; the iterator's state is the same on every process.

        batch_size: of the global batch.
        """
        ...

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Mapping[str, np.ndarray]]:
        """Every example once, in order; "mask" (float32) is 0 for what fills up the last batch."""
        ...


@runtime_checkable
class RunData(Data, Protocol):
    """Data of which a part, such as a tokenizer, is kept in the folder of a run."""

    def opened(self, workdir: Any) -> Data:
        """The same data as the run in `workdir` reads it."""
        ...


def open_data(data: Data, workdir: Any) -> Data:
    """Return the data as the run in `workdir` reads it."""
    return data.opened(workdir) if isinstance(data, RunData) else data
