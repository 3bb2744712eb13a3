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

    With several steps a call, the ids have a leading axis of steps, and so has the batch, or it is
    a list of one batch a step.
    """

    batch: Any
    ids: np.ndarray
    position: Any


class Prefetch:
    """Reads and places batches in a thread of its own; errors there are raised here."""

    def __init__(
        self,
        batches: BatchIterator,
        strategy: Strategy,
        steps: int = 1,
        depth: int = 2,
        stacked: bool = True,
    ):
        """steps: batches in one call. depth: how many calls are held ready.

        stacked: whether several batches become one array each, and no list of batches.
        """
        self._queue: queue.Queue = queue.Queue(depth)
        self._stop = threading.Event()
        self._args = (batches, strategy, steps, stacked)
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


def _place(batches: BatchIterator, strategy: Strategy, steps: int, stacked: bool) -> Placed:
    read = [next(batches) for _ in range(steps)]
    arrays, ids = [numeric(batch) for batch in read], [batch["id"] for batch in read]
    position = batches.get_state()
    if steps == 1:
        return Placed(strategy.put(arrays[0], stacked=False), ids[0], position)
    if stacked:
        whole = jax.tree.map(lambda *x: np.stack(x), *arrays)
        return Placed(strategy.put(whole, stacked=True), np.stack(ids), position)
    placed = [strategy.put(one, stacked=False) for one in arrays]
    return Placed(placed, np.stack(ids), position)
