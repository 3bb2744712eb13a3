"""Batches on the devices before the step asks for them."""

from __future__ import annotations

import queue
import threading
from typing import Any, NamedTuple

import jax
import numpy as np

from genax.core.data import BatchIterator, numeric
from genax.core.devices import Strategy


class Placed(NamedTuple):
    """A batch on the devices, the record numbers it came from, and the position after it.

    With several steps a dispatch, the batch and the ids have a leading axis of steps.
    """

    batch: Any
    ids: np.ndarray
    position: Any


class Prefetch:
    """Reads and places batches in a thread of its own; errors there are raised here."""

    def __init__(self, batches: BatchIterator, strategy: Strategy, steps: int = 1, depth: int = 2):
        """steps: batches in one dispatch. depth: how many dispatches are held ready."""
        self._queue: queue.Queue = queue.Queue(depth)
        self._stop = threading.Event()
        self._args = (batches, strategy, steps)
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
        self._thread.start()

    def __next__(self) -> Placed:
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                self._offer(_place(*self._args))
        except BaseException as error:  # raised again by __next__
            self._offer(error)

    def _offer(self, item: Any) -> None:
        while not self._stop.is_set():
            try:
                return self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()


def _place(batches: BatchIterator, strategy: Strategy, steps: int) -> Placed:
    read = [next(batches) for _ in range(steps)]
    pairs = [(numeric(batch), batch["id"]) for batch in read]
    arrays, ids = pairs[0] if steps == 1 else jax.tree.map(lambda *x: np.stack(x), *pairs)
    return Placed(strategy.put(arrays, steps > 1), ids, batches.get_state())
