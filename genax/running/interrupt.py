"""A signal to end, as a wish that the loop grants between two steps."""

from __future__ import annotations

import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils


class Interrupt:
    """SIGTERM and SIGINT as a wish to stop after the step; a second SIGINT stops at once.

    Of several processes, the one that is told tells the others, and all stop after one step.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread() and jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: Any) -> None:
        if self.signal == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.signal = number

    def came(self, dispatch: int) -> bool:
        """Whether to save and stop after this dispatch; its number has risen by one."""
        # The processes agree on the next number and stop at exactly that one.
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(dispatch):
            self.signal = signal.SIGTERM
        return self.signal is not None

    def __exit__(self, *error: Any) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
