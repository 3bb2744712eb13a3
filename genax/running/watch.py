"""Metrics on their way from the device, and the guard against values that are not finite."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from genax.core.errors import GenaxError
from genax.core.task import Task
from genax.settings.files import write_json

# Dispatches that may be under way while the host reads the metrics of the one before them.
IN_FLIGHT = 2


class _Pending(NamedTuple):
    step: int
    metrics: Any
    ids: np.ndarray


class Watch:
    """Takes each dispatch's metrics, never waiting for the newest, and gives out their means."""

    def __init__(self, task: Task, workdir: epath.Path, steps_per_call: int):
        self._task, self._workdir, self._steps = task, workdir, steps_per_call
        self._pending: deque[_Pending] = deque()
        self._values: deque[tuple[int, str, float]] = deque()
        # The metrics of all steps up to this one have been read.
        self.read = 0

    def add(self, step: int, metrics: Mapping[str, jax.Array], ids: np.ndarray) -> None:
        """The metrics of the dispatch that began at `step`, and its batches' record numbers."""
        self._pending.append(_Pending(step, metrics, ids))
        while len(self._pending) > IN_FLIGHT:
            self._read(self._pending.popleft())

    def drain(self) -> None:
        """Read all that is under way."""
        while self._pending:
            self._read(self._pending.popleft())

    def means(self, step: int) -> dict[str, float]:
        """Mean of each metric over the steps up to `step`, from where the last call ended."""
        values: defaultdict[str, list[float]] = defaultdict(list)
        while self._values and self._values[0][0] <= step:
            _, name, value = self._values.popleft()
            values[name].append(value)
        return {name: float(np.mean(found)) for name, found in values.items()}

    def _read(self, pending: _Pending) -> None:
        fetched = jax.device_get(pending.metrics)
        for offset in range(self._steps):
            step = pending.step + offset
            one = fetched if self._steps == 1 else {k: v[offset] for k, v in fetched.items()}
            ids = pending.ids if self._steps == 1 else pending.ids[offset]
            stage, start = self._task.stage_at(step)
            for phase in self._task.stages[stage].phases:
                if phase.moves(step - start):
                    self._take(phase.name, step, one, ids)
        self.read = pending.step + self._steps

    def _take(self, phase: str, step: int, metrics: Mapping[str, Any], ids: np.ndarray) -> None:
        mine = {k: v for k, v in metrics.items() if k.startswith(f"{phase}/")}
        counts = mine.pop(f"{phase}/counts")
        if not mine.pop(f"{phase}/finite"):
            self._stop(phase, step, mine, ids, counts)
        for name, value in mine.items():
            self._values.append((step + 1, name, float(value)))

    def _stop(
        self, phase: str, step: int, metrics: Mapping[str, Any], ids: np.ndarray, counts: bool
    ) -> None:
        path = self._workdir / f"nonfinite.process{jax.process_index()}.json"
        found = {k: str(v) for k, v in metrics.items()}
        write_json(
            path, {"step": step + 1, "phase": phase, "metrics": found, "records": ids.tolist()}
        )
        loss, norm = found[f"{phase}/loss"], found[f"{phase}/grad_norm"]
        why = f"loss {loss}, gradient {norm}"
        if not counts:
            why = "no element of its batch counts: all of them are padding or masked"
        elif step == 0:
            why += "; a label or token that no table of a network has a row for gives NaN"
        some = ", ".join(map(str, ids.ravel()[:8])) + (", ..." if ids.size > 8 else "")
        raise GenaxError(
            f"phase {phase!r} is not finite at step {step + 1} ({why}); the batch's records are "
            f"{some}, all of them in {path}; earlier checkpoints are as they were."
        )
