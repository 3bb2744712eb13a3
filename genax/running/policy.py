"""When the clock asks for a checkpoint, and which checkpoints stay."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from genax.core.errors import GenaxError
from genax.running import processes


@dataclass(frozen=True)
class Best:
    """The metric that makes a checkpoint the best one, and whether that is the lowest."""

    name: str
    lowest: bool

    @property
    def group(self) -> str:
        """What measures it: a phase, or "eval"."""
        return self.name.partition("/")[0]

    def of(self, measured: Mapping[str, float]) -> dict[str, float] | None:
        """The metric, to save with a checkpoint; None if it is not measured or not finite."""
        value = measured.get(self.name, math.nan)
        return {self.name: value} if math.isfinite(value) else None

    def check(self, measured: Mapping[str, float]) -> None:
        """Raise GenaxError if what measures the metric measures other ones only."""
        others = [name for name in measured if name.startswith(f"{self.group}/")]
        if others and self.name not in measured:
            raise GenaxError(
                f"config.keep_best: there is no metric {self.name}, but {', '.join(others)}; the "
                "same command with one of them goes on from the newest checkpoint."
            )


def parse_best(text: str) -> Best | None:
    """Read "eval/error:min"; "" gives None. Raises GenaxError for anything else."""
    if not text:
        return None
    name, _, direction = text.rpartition(":")
    if "/" not in name or direction not in ("min", "max"):
        raise GenaxError(f"config.keep_best={text} is not METRIC:min or METRIC:max.")
    return Best(name, direction == "min")


@dataclass(frozen=True)
class FirstOfEach:
    """A policy of Orbax: the first checkpoint at or after each multiple of `every` steps.

    It stays, and so does the answer when the ones after it have been deleted.
    """

    every: int

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Whether each checkpoint, oldest first, stays."""
        multiples = [checkpoint.step // self.every for checkpoint in checkpoints]
        return [
            multiple > before for before, multiple in zip([0, *multiples], multiples, strict=False)
        ]


@dataclass(frozen=True)
class Keep:
    """Which checkpoints stay: the `newest`, the first at each multiple of `every`, the `best`.

    newest: None keeps all. every: 0 is none.
    """

    newest: int | None
    every: int = 0
    best: Best | None = None

    def policy(self) -> Any:
        """The policy that Orbax applies."""
        policies = ocp.training.preservation_policies
        kept: list[Any] = [policies.LatestN(self.newest)]
        if self.every:
            kept.append(FirstOfEach(self.every))
        if best := self.best:
            # Checkpoints of an earlier start, with another `keep_best`, lack the metric.
            without = math.inf if best.lowest else -math.inf
            kept.append(
                policies.BestN(
                    n=1,
                    get_metric_fn=lambda metrics: metrics.get(best.name, without),
                    reverse=best.lowest,
                    keep_checkpoints_without_metrics=False,
                )
            )
        return policies.AnyPreservationPolicy(kept)


class Minutes:
    """Whether minutes have passed since the last checkpoint, by the first process's clock."""

    def __init__(self, minutes: float):
        """minutes: 0 is never."""
        self._seconds = 60 * minutes
        self.restart()

    def restart(self) -> None:
        """A checkpoint has been made."""
        self._since = time.monotonic()

    def passed(self, log_step: bool) -> bool:
        """All processes ask it at the same steps and hear the same."""
        if not self._seconds or (jax.process_count() > 1 and not log_step):
            return False  # to hear from the first process waits for the step under way
        return processes.agreed(time.monotonic() - self._since >= self._seconds)
