"""Checkpoints: asynchronous, atomic, strict to restore."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from genax.core import tree
from genax.core.errors import GenaxError, reason
from genax.core.task import TrainState
from genax.running import checksums, fixed
from genax.running.policy import Keep

# Where a state holds what is fixed.
FIXED = "fixed/"


class Checkpoints:
    """The checkpoints of a run: a state each, with a JSON record beside it."""

    def __init__(self, workdir: epath.PathLike, keep: Keep | None):
        """keep: which of them stay; None only reads."""
        self.directory = epath.Path(workdir).resolve() / "checkpoints"
        self._checkpointer = ocp.training.Checkpointer(
            self.directory,
            preservation_policy=(keep or Keep(None)).policy(),
        )
        self._saving: tuple[int, Future] | None = None
        self._finisher = ThreadPoolExecutor(1, "seal")
        self._records: dict[int, dict[str, Any]] = {}

    @property
    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, oldest first."""
        return sorted(found.step for found in self._checkpointer.checkpoints)

    def save(
        self,
        state: TrainState,
        step: int,
        record: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Start saving; returns as soon as the state may change. A save before must have ended.

        What is fixed is left out; the record names it: {"run": {"fixed": digest of `fixed.keep`}}.
        metrics: by which a policy compares it with others.
        Raises GenaxError if the one before failed, or this one could not start.
        """
        self.wait()
        if step in self.steps:
            return
        leaves = tree.nest(tree.flatten(state.replace(fixed={})))
        try:
            response = self._checkpointer.save_async(
                step, leaves, metrics=metrics, custom_metadata=dict(record)
            )
        except Exception as error:
            raise self._not_saved(step, error) from error
        # The sums are written as soon as the files are there, so that a process that is killed
        # leaves what can be verified.
        self._saving = (step, self._finisher.submit(self._finish, step, response))

    def _finish(self, step: int, response: Any) -> None:
        response.result()
        checksums.seal(self.directory / str(step))

    def wait(self) -> None:
        """Wait until the save under way is on disk; raises GenaxError if it failed."""
        if self._saving is None:
            return
        (step, finishing), self._saving = self._saving, None
        try:
            finishing.result()
        except Exception as error:
            raise self._not_saved(step, error) from error

    def _not_saved(self, step: int, error: Exception) -> GenaxError:
        intact = [kept for kept in self.steps if kept != step]
        kept = f"the newest intact one is of step {intact[-1]}" if intact else "there is none yet"
        return GenaxError(
            f"checkpoint of step {step} could not be saved in {self.directory} "
            f"({reason(error)}); {kept}. Make room or fix the folder, then run the same command."
        )

    def record(self, step: int) -> dict[str, Any]:
        """The JSON record of a checkpoint.

        Raises GenaxError if it is missing, or a file of the checkpoint is not what was written.
        """
        if step not in self._records:
            lines = checksums.damage(self.directory / str(step))
            if lines:
                raise self._damaged(step, "; ".join(lines))
            try:
                found = self._checkpointer.metadata(step).custom_metadata
            except Exception as error:
                raise self._damaged(step, reason(error)) from error
            # Orbax reads a missing file as an empty record.
            if not isinstance(found, Mapping) or not {"run", "position"} <= set(found):
                raise self._damaged(step, "its record is missing")
            self._records[step] = dict(found)
        return self._records[step]

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state of a step, on the shapes and places of `like` (see `devices.abstract`).

        Raises GenaxError if a leaf is missing, surplus or of another shape, naming them, and
        if the checkpoint is damaged, naming the one before.
        """
        wanted = tree.flatten(like)
        differences = compare(self.shapes(step), wanted)
        if differences:
            raise GenaxError(
                f"checkpoint of step {step} in {self.directory} is of another model: "
                + "; ".join(differences[:5])
                + (f"; and {len(differences) - 5} more" if len(differences) > 5 else "")
                + ". Use the settings it was made with, or another workdir."
            )
        return tree.unflatten(self._load(step, wanted), like)

    def arrays(self, step: int) -> dict[str, jax.Array]:
        """Path to array, as saved, on this process's first device; what is fixed among them."""
        place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        wanted = {
            path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
            for path, leaf in self.shapes(step).items()
        }
        found = self._load(step, wanted)
        return {path.removeprefix(FIXED): array for path, array in found.items()}

    def shapes(self, step: int) -> dict[str, Any]:
        """Path to shape and dtype, as saved; what is fixed among them, under "fixed/"."""
        digest = self.record(step)["run"].get("fixed")
        try:
            found = tree.flatten(self._checkpointer.metadata(step).metadata)
        except Exception as error:
            raise self._damaged(step, reason(error)) from error
        kept = fixed.shapes(self.directory.parent) if digest else {}
        return found | {FIXED + path: shape for path, shape in kept.items()}

    def _load(self, step: int, wanted: Mapping[str, Any]) -> dict[str, jax.Array]:
        saved = {path: leaf for path, leaf in wanted.items() if not path.startswith(FIXED)}
        kept = {path.removeprefix(FIXED): wanted[path] for path in wanted if path not in saved}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = tree.flatten(self._checkpointer.load(step, tree.nest(saved)))
        except Exception as error:
            raise self._damaged(step, reason(error)) from error
        if kept:
            loaded = fixed.load(self.directory.parent, kept, self.record(step)["run"]["fixed"])
            found |= {FIXED + path: array for path, array in loaded.items()}
        return found

    def _damaged(self, step: int, reason: str) -> GenaxError:
        before = [kept for kept in self.steps if kept < step]
        advice = (
            f"the one before is of step {before[-1]}: add --from-step {before[-1]} to use it"
            if before
            else "there is none before: start in another workdir"
        )
        return GenaxError(
            f"checkpoint {self.directory / str(step)} is damaged ({reason}); {advice}."
        )

    def set_aside(self, after: int) -> list[epath.Path]:
        """Move checkpoints later than step `after` out of the way, and say where to.

        All processes call it; the first one moves.
        """
        moved = []
        later = [step for step in self.steps if step > after]
        self._records.clear()
        for step in later if jax.process_index() == 0 else ():
            aside = self.directory.parent / "set_aside"
            aside.mkdir(parents=True, exist_ok=True)
            number = sum(path.name.startswith(f"{step}") for path in aside.iterdir())
            target = aside / (f"{step}" if not number else f"{step}.{number}")
            (self.directory / str(step)).rename(target)
            moved.append(target)
        if later:
            # A process that still knew a moved one would not save that step, and the rest wait.
            multihost_utils.sync_global_devices("checkpoints set aside")
            self._checkpointer.reload()
        return moved

    def clean(self) -> None:
        """Remove what a killed save left unfinished."""
        if self.directory.exists():
            for path in self.directory.glob("*.orbax-checkpoint-tmp*"):
                path.rmtree()

    def close(self) -> None:
        """Finish what is being saved; raises GenaxError if that failed."""
        try:
            self.wait()
        finally:
            self._finisher.shutdown()
            # `wait` has raised a failure of the save, and Orbax raises it again.
            with contextlib.suppress(Exception):
                self._checkpointer.close()


def compare(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs between two sets of leaves (path to something with shape and dtype)."""
    lines = [f"{path} is missing" for path in wanted if path not in saved]
    lines += [f"{path} is surplus" for path in saved if path not in wanted]
    for path in wanted:
        if path in saved:
            old, new = saved[path], wanted[path]
            if tuple(old.shape) != tuple(new.shape) or old.dtype != new.dtype:
                lines.append(
                    f"{path} is {old.dtype}{list(old.shape)}, not {new.dtype}{list(new.shape)}"
                )
    return lines
