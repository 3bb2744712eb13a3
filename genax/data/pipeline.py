"""Batches of record numbers: Grain iterators whose state is a number of examples."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grain
import numpy as np

from genax.core.data import BatchIterator, Shard
from genax.core.errors import GenaxError
from genax.data.shuffling import consecutive_numbers

Batch = dict[str, np.ndarray]
Read = Callable[[np.ndarray], Mapping[str, np.ndarray]]
Change = Callable[[Batch, np.ndarray], Batch]


def train_batches(
    read: Read,
    size: int,
    batch_size: int,
    seed: int,
    shard: Shard,
    change: Change | None = None,
    threads: int = 1,
) -> BatchIterator:
    """Return endless shuffled batches of this process, read ahead by threads.

    The position is {"examples": those that all processes have taken}, so a run resumes on the next
    example on any number of processes and with any batch size.

    read: record numbers, int64 [b] -> arrays [b, ...].
    size: number of records.
    batch_size: of the global batch.
    change: (batch, positions int64 [b]) -> batch; random changes are drawn from the positions.
    threads: how many read ahead.
    Raises GenaxError if batch_size does not divide by the shards.
    """
    local = _local_batch_size(batch_size, size, shard)
    if seed < 0:
        raise GenaxError(f"seed={seed} must not be negative.")

    def make(first: int) -> Batch:
        start = first + shard.number * local
        positions = np.arange(start, start + local, dtype=np.int64)
        ids = consecutive_numbers(start, local, size, seed)
        batch = dict(read(ids))
        if change is not None:
            batch = change(batch, positions)
        return {**batch, "id": ids}

    return _Endless(make, batch_size, threads)


class _Endless:
    """Batches of `make(number of the first example)`, read ahead from any example on."""

    def __init__(self, make: Callable[[int], Batch], batch_size: int, threads: int):
        self._make, self._size, self._threads = make, batch_size, threads
        self.set_state({"examples": 0})

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = next(self._batches)
        self._taken += self._size
        return batch

    def get_state(self) -> dict[str, int]:
        """Return the number of examples of the global batches given out."""
        return {"examples": self._taken}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continue on the next example."""
        # Earlier versions counted batches, as "next_index".
        first = state["examples"] if "examples" in state else state["next_index"] * self._size
        self._taken = first
        self._batches = _prefetched(
            lambda number: self._make(first + number * self._size), sys.maxsize, self._threads
        )


def evaluation_batches(
    read: Read, size: int, batch_size: int, shard: Shard, threads: int = 1
) -> Iterator[Batch]:
    """Return every record once, in order, as this process's part of each global batch.

    Copies of the last record fill up the last global batch. "mask" (float32 [b]) is 0 on copies and
    1 elsewhere. Every process gets the same number of batches.
    """
    local = _local_batch_size(batch_size, size, shard)

    def make(number: int) -> Batch:
        start = number * batch_size + shard.number * local
        numbers = np.arange(start, start + local, dtype=np.int64)
        ids = np.minimum(numbers, size - 1)
        mask = (numbers < size).astype(np.float32)
        return {**read(ids), "id": ids, "mask": mask}

    return iter(_prefetched(make, -(-size // batch_size), threads))


def _local_batch_size(batch_size: int, size: int, shard: Shard) -> int:
    if size < 1:
        raise GenaxError("the data set has no records; check its split and limit.")
    if batch_size < 1 or batch_size % shard.count:
        raise GenaxError(
            f"a global batch of {batch_size} does not divide by {shard.count} processes; "
            f"choose a batch size that is a positive multiple of {shard.count}."
        )
    return batch_size // shard.count


def _prefetched(make: Callable[[int], Batch], batches: int, threads: int) -> Any:
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(8, 2 * threads))
    return iter(grain.MapDataset.range(batches).map(make).to_iter_dataset(options))
