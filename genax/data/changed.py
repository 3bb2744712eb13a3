"""Data and batches of training that are changed on their way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from genax.core.data import BatchIterator, Data

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


@dataclass(frozen=True)
class Derived:
    """What a data set that changes the values of another one has of it."""

    data: Data

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of one example."""
        return self.data.element

    @property
    def num_examples(self) -> int | None:
        """The number of records in use, if the data says it."""
        return getattr(self.data, "num_examples", None)

    @property
    def is_augmented(self) -> bool:
        """Whether training changes images at random."""
        return getattr(self.data, "is_augmented", False)

    @property
    def says(self) -> Sequence[str]:
        """What a run tells its user of the data."""
        return getattr(self.data, "says", ())
