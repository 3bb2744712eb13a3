"""Functions that are timed in turns within one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Step = Callable[[], Any]


def seconds(functions: Mapping[str, Step], turns: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor time of each function in each turn, after one turn that does not count."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for turn in range(turns + 1):
        for name, function in functions.items():
            wall, processor = time.perf_counter(), time.process_time()
            function()
            if turn:
                spent = (time.perf_counter() - wall, time.process_time() - processor)
                times[name].append(spent)
    return times


def rates(
    functions: Mapping[str, Step], turns: int, count: float
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what is counted, and how much of it each function does in a second.

    Counted are the fastest and the median turn, and the median of the processor time.

    count: what one call does, such as the images that it sees.
    """
    times = seconds(functions, turns)
    for kind, part, pick in (
        ("fastest", 0, min),
        ("median", 0, statistics.median),
        ("processor time", 1, statistics.median),
    ):
        yield (
            kind,
            {name: count / pick([turn[part] for turn in spent]) for name, spent in times.items()},
        )
