"""The host's time between two lines of the log, by what it was spent on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

PARTS = ("input", "dispatch", "device")


class Times:
    """Seconds spent waiting for input, handing steps to the devices, and waiting for these."""

    def __init__(self) -> None:
        self._spent = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def spent(self, part: str) -> Iterator[None]:
        """Count what runs inside to a part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spent[part] += time.perf_counter() - start

    def take(self, steps: int) -> dict[str, float]:
        """Seconds a step as "time/<part>" since the last call."""
        taken = {f"time/{part}": seconds / steps for part, seconds in self._spent.items()}
        self._spent = dict.fromkeys(PARTS, 0.0)
        return taken
