"""Batches arrive in order, with their positions, and errors are not lost."""

import threading

import numpy as np
import pytest

from genax.core.devices import make_strategy
from genax.running.prefetch import Prefetch

STRATEGY = make_strategy({"strategy": "jit", "mesh": "data=-1"})


class Counting:
    """Batch n holds n; reading batch `fails_at` raises."""

    def __init__(self, fails_at=None):
        self.number, self.fails_at = 0, fails_at

    def __next__(self):
        if self.number == self.fails_at:
            raise OSError("unreadable")
        self.number += 1
        return {"x": np.full((4,), self.number), "id": np.arange(4) + 10 * self.number}

    def get_state(self):
        return {"examples": 4 * self.number}


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_order_and_positions():
    prefetch = Prefetch(Counting(), STRATEGY)
    for number in (1, 2, 3, 4, 5):
        placed = next(prefetch)
        assert set(placed.batch) == {"x"}
        assert placed.batch["x"].tolist() == [number] * 4
        assert placed.ids.tolist() == [10 * number + i for i in range(4)]
        # The position after this batch, however far the thread has read ahead.
        assert placed.position == {"examples": 4 * number}
    prefetch.close()


def test_several_steps_a_dispatch():
    prefetch = Prefetch(Counting(), STRATEGY, steps=3)
    next(prefetch)
    placed = next(prefetch)
    assert placed.batch["x"].tolist() == [[4] * 4, [5] * 4, [6] * 4]
    assert placed.ids.shape == (3, 4)
    assert placed.position == {"examples": 24}
    prefetch.close()


def test_an_error_comes_after_the_batches_before_it():
    prefetch = Prefetch(Counting(fails_at=2), STRATEGY)
    assert [next(prefetch).position["examples"] for _ in range(2)] == [4, 8]
    with pytest.raises(OSError, match="unreadable"):
        next(prefetch)
    prefetch.close()


def test_closing_ends_the_thread_though_nobody_took_what_it_read():
    before = len(threads())
    prefetch = Prefetch(Counting(), STRATEGY)
    next(prefetch)
    assert len(threads()) == before + 1
    prefetch.close()
    assert len(threads()) == before


def test_it_reads_no_further_than_it_may_hold():
    batches = Counting()
    prefetch = Prefetch(batches, STRATEGY, depth=2)
    next(prefetch)
    prefetch.close()
    # One was taken, two are held, one waits for room.
    assert batches.number <= 4
