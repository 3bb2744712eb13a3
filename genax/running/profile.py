"""A trace of some steps for XProf and TensorBoard."""

from __future__ import annotations

from collections.abc import Callable

import jax
from etils import epath

from genax.core.errors import GenaxError


def parse_steps(text: str, total: int) -> tuple[int, int] | None:
    """The first and the last step from "FIRST:LAST"; None from "".

    Raises GenaxError if these are not steps of the run.
    """
    if not text:
        return None
    first, _, last = text.partition(":")
    whole = first.isdecimal() and last.isdecimal()
    if not (whole and 1 <= int(first) <= int(last) <= total):
        raise GenaxError(
            f"config.profile={text} is not FIRST:LAST, two of the steps 1 to {total} in order."
        )
    return int(first), int(last)


class Profile:
    """Traces the dispatches that hold the steps asked for, by jax.profiler."""

    def __init__(self, steps: tuple[int, int] | None, folder: epath.Path):
        """steps: the first and the last; None traces nothing."""
        self._first, self._last = steps or (0, 0)
        self._folder, self._running = folder, False

    def before(self, step: int, after: int) -> None:
        """The dispatch from `step` to `after` is next."""
        if not self._running and step < self._last and after >= self._first:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, step: int, wait: Callable[[], None]) -> None:
        """The steps up to `step` are under way; `wait` ends when they have."""
        if self._running and step >= self._last:
            wait()
            self.close()

    def close(self) -> None:
        """Write what there is."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
