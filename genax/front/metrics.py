"""The metrics of a run as columns."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from etils import epath


def read_metrics(workdir: epath.PathLike) -> dict[str, np.ndarray]:
    """Return what a run has logged: by name, float64 with one value per step that logged anything.

    "step" is int64 and rises. Several lines of one step are one row; if they have a metric in
    common, the last one counts. A step without a metric has NaN there.
    """
    path = epath.Path(workdir) / "metrics.jsonl"
    rows: dict[int, dict[str, float]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        values = _values(line)
        if values is not None:
            rows.setdefault(values.pop("step"), {}).update(values)
    steps = sorted(rows)
    names = dict.fromkeys(name for step in steps for name in rows[step])
    columns = {
        name: np.array([float(rows[step].get(name, np.nan)) for step in steps]) for name in names
    }
    return {"step": np.array(steps, np.int64), **columns}


def _values(line: str) -> dict[str, Any] | None:
    """Return what a line holds; None for one that a killed process left unfinished."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) and isinstance(values.get("step"), int) else None
