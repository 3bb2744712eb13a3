"""Batches of training that are changed on their way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from genax.core.data import BatchIterator

Batch = Mapping[str, np.ndarray]


class Changed:
    """The batches of an iterator, each changed by change(batch, first).

    first: how many examples all processes have been given before the batch.
    """

    def __init__(self, batches: BatchIterator, change: Callable[[Batch, int], Batch]):
        self._batches, self._change = batches, change

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        first = self._batches.get_state()["examples"]
        return self._change(next(self._batches), first)

    def get_state(self) -> Mapping[str, int]:
        """Return the position of the iterator."""
        return self._batches.get_state()

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continue on the next example after a saved position."""
        self._batches.set_state(state)
