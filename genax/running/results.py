"""Files that say what was scored and how: WORKDIR/evaluation."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

from etils import epath

from genax.running.evaluate import Scores
from genax.running.record import make_record
from genax.running.run import Run
from genax.settings.files import write_json
from genax.settings.flat import flat

# Of the noise that scores are drawn with.
SEED = 0
LONGEST = 150


def write_result(
    run: Run,
    scores: Scores,
    step: int,
    averaged: bool = True,
    changes: Mapping[str, Any] | None = None,
) -> epath.Path:
    """Write the file of an evaluation, and return its path.

    averaged: whether averages took the place of what is averaged.
    changes: settings that differ from those of the run. They are part of the file's name, so that
      they never take the place of another result.
    """
    changed = flat(changes or {})
    path = result_path(run.workdir, step, averaged, changed)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = make_record(*run.source, run.config, None, {})
    averages = "averages" if run.task.ema else "as trained, since nothing is averaged"
    result = {
        **shown_result(scores, step),
        "weights": averages if averaged else "as trained, without averages",
        "seed": SEED,
        "changed_settings": {name: str(value) for name, value in changed.items()},
        **{name: record[name] for name in ("experiment", "variant", "config")},
        **{name: record[name] for name in ("versions", "commit", "device")},
        "finished": record["started"],
    }
    write_json(path, result)
    return path


def shown_result(scores: Scores, step: int) -> dict[str, Any]:
    """Return what a result says of the scores alone, as JSON: not how they came about.

    Scores are by their names, null for one that is not finite, and "not_finite" has what it is.
    "floor" and "said" are there if an evaluator has something to say.
    """
    found: dict[str, Any] = {
        name: score if math.isfinite(score) else None for name, score in scores.items()
    }
    wrong = {name: str(scores[name]) for name, score in found.items() if score is None}
    said = {
        name: {about: value for about, value in says.items() if about != "floor"}
        for name, says in scores.said.items()
        if says
    }
    others = {"not_finite": wrong, "floor": floors(scores), "said": said}
    return {"step": step, **found, **{name: what for name, what in others.items() if what}}


def result_path(
    workdir: epath.Path, step: int, averaged: bool, changed: Mapping[str, Any]
) -> epath.Path:
    """Return where the result of a step is written.

    changed: settings by dotted name.
    """
    parts = [f"{step:08d}", *(() if averaged else ("raw",))]
    parts += [f"{name}={value}" for name, value in sorted(changed.items())]
    whole = "_".join(parts)
    name = re.sub(r"[^\w.=,+-]", "-", whole)
    if name != whole or len(name) > LONGEST:
        name = f"{name[:LONGEST]}_{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
    return workdir / "evaluation" / f"{name}.json"


def floors(scores: Scores) -> dict[str, float]:
    """Return by score what it is at best, for those that have such a floor."""
    return {
        f"{name}/{score}": value
        for name, said in scores.said.items()
        for score, value in said.get("floor", {}).items()
    }
