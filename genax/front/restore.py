"""What a trained run holds, for the verbs that only read it."""

from __future__ import annotations

from typing import Any

from etils import epath

from genax.core import tree
from genax.core.errors import GenaxError
from genax.running import sampling
from genax.running.checkpoint import Checkpoints
from genax.running.run import Run


def steps_of(workdir: Any) -> list[int]:
    """Steps of a folder's checkpoints, oldest first."""
    if not (epath.Path(workdir) / "checkpoints").is_dir():
        return []
    checkpoints = Checkpoints(workdir, keep=None)
    steps = checkpoints.steps
    checkpoints.close()
    return steps


def open_checkpoints(workdir: Any, step: int | None = None) -> tuple[Checkpoints, int]:
    """A folder's checkpoints and the step asked for (None: the newest), without changing any."""
    if not (epath.Path(workdir) / "checkpoints").is_dir():
        raise GenaxError(f"{workdir} has no checkpoint.")
    checkpoints = Checkpoints(workdir, keep=None)
    steps = checkpoints.steps
    if not steps or (step is not None and step not in steps):
        raise GenaxError(
            f"{workdir} has no checkpoint{f' of step {step}' * (step is not None)}"
            f"{f', but {steps}' * bool(steps)}."
        )
    return checkpoints, steps[-1] if step is None else step


def restore_variables(run: Run, step: int | None, averaged: bool) -> tuple[dict[str, Any], int]:
    """Linen variables of a checkpoint, and its step."""
    checkpoints, step = open_checkpoints(run.workdir, step)
    stage, _ = run.task.stage_at(step)
    like = run.abstract(stage)
    if "imported" in checkpoints.record(step)["run"]:
        like = like.replace(opt_state={}, ema={})
    state = checkpoints.restore(step, like)
    return sampling.variables(state, averaged), step


def facts(workdir: Any, step: int | None = None) -> dict[str, Any]:
    """Return what a checkpoint is: its step, digests of its state, and the run's record then."""
    checkpoints, step = open_checkpoints(workdir, step)
    arrays = checkpoints.arrays(step)
    params = {path: leaf for path, leaf in arrays.items() if path.startswith("params/")}
    return {
        "step": step,
        "digest": tree.digest(arrays),
        "params_digest": tree.digest(params),
        "checkpoints": checkpoints.steps,
        **checkpoints.record(step)["run"],
    }
