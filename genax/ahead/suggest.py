"""Ways to place a step on devices that are worth compiling."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Settings that place a step."""

    mesh: str
    remat: str
    accumulate: int

    @property
    def settings(self) -> dict[str, str]:
        """The settings as the command line overrides them."""
        return {
            "parallel.mesh": self.mesh,
            "remat": self.remat,
            "accumulate": str(self.accumulate),
        }

    def __str__(self) -> str:
        return f"{self.mesh} remat={self.remat} accumulate={self.accumulate}"


REMATS = ("none", "dots_with_no_batch_dims_saveable", "full")


def meshes(devices: int, batch_size: int, stated: str = "") -> list[tuple[str, int]]:
    """Meshes and the parts that they split a batch into, the simplest first.

    Replicas; parameters split over all devices; over groups of 8 of them; and heads and widths
    split over 2, 4 or 8, for a batch of few examples or wide layers. Sequences stay split as they
    are in the stated mesh, if the devices allow it.
    """
    found = re.search(r"sequence=(\d+)", stated)
    sequence = int(found[1]) if found and int(found[1]) and devices % int(found[1]) == 0 else 1
    devices //= sequence
    splits = [(devices, 1, 1), (1, devices, 1)]
    if devices > 8 and devices % 8 == 0:
        splits.append((devices // 8, 8, 1))
    splits += [(1, devices // t, t) for t in (2, 4, 8) if devices % t == 0 and devices > t]
    rest = f",sequence={sequence}" * (sequence > 1)
    return [
        (f"data={d},fsdp={f},tensor={t}{rest}", d * f)
        for d, f, t in dict.fromkeys(splits)
        if batch_size % (d * f) == 0
    ]


def plans(
    devices: int, batch_size: int, remat: bool, stated: str = ""
) -> Generator[Plan, bool | None, None]:
    """Plans one after the other; send whether the last one fitted, None if it is impossible.

    If one did not, more is computed again and then the microbatches are halved; if it did,
    neither is needed on that mesh. remat: whether the networks compute anything again.
    stated: the experiment's own mesh.
    """
    for mesh, shards in meshes(devices, batch_size, stated):
        fitted: bool | None = False
        for policy in REMATS if remat else REMATS[:1]:
            if fitted is False:
                fitted = yield Plan(mesh, policy, 1)
        accumulate = 2
        while fitted is False and batch_size % (shards * accumulate) == 0:
            fitted = yield Plan(mesh, REMATS[-1] if remat else REMATS[0], accumulate)
            accumulate *= 2
