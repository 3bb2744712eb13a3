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


def global_index(size: int, part: Any = 0, first: int = 0, numpy: Any = np) -> Any:
    """Return the position in the global batch of each of a part's `size` elements, int32 [size].

    part: the number of the part, among parts of one size; it may be traced.
    first: the position of the first element of part 0.
    numpy: jax.numpy in a program, so that the program makes the positions itself.
    """
    return (first + part * size + numpy.arange(size)).astype(np.int32)


def numeric(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what goes to the device of a batch: all but the record numbers and texts."""
    return {n: array for n, array in batch.items() if n != "id" and array.dtype != object}


@runtime_checkable
class BatchIterator(Protocol):
    """An endless iterator over process-local batches of numpy arrays, leading axis first.

    Each batch also holds "id": int64, the record numbers. It may hold texts as arrays of objects,
    such as captions. Neither reaches the device; see `numeric`.
    """

    def __next__(self) -> Mapping[str, np.ndarray]: ...

    def get_state(self) -> Mapping[str, int]:
        """Return {"examples": those of all global batches given out}, the same on every process.

        It counts examples, since a stage may go on from it with batches of another size.
        """

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continue on the next example after a saved position, of whatever batch size."""


@runtime_checkable
class Data(Protocol):
    """A data set as an experiment names it; `element` needs nothing on disk.

    If it has a property `says`, the run says its lines at the start. If it has a method
    `check_weights(folder, workdir)`, that refuses weights which do not fit, as a tokenizer may.
    """

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one example's arrays, without batch axis and without "id"."""

    def fingerprint(self) -> str:
        """A text that changes whenever the content or its order would."""

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Return this process's part of shuffled global batches of `batch_size` examples."""

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Mapping[str, np.ndarray]]:
        """Every example once, in order; "mask" (float32) is 0 for what fills up the last batch."""


@runtime_checkable
class RunData(Data, Protocol):
    """Data of which a part, such as a tokenizer, is kept in the folder of a run."""

    def opened(self, workdir: Any) -> Data:
        """The same data as the run in `workdir` reads it."""


def open_data(data: Data, workdir: Any) -> Data:
    """Return the data as the run in `workdir` reads it."""
    return data.opened(workdir) if isinstance(data, RunData) else data
