"""Checkpoints: asynchronous, atomic, strict to restore."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from genax.core import tree
from genax.core.errors import GenaxError
from genax.core.task import TrainState
from genax.running import checksums
from genax.running.policy import Keep


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

        metrics: by which a policy compares it with others.
        Raises GenaxError if the one before failed, or this one could not start.
        """
        self.wait()
        if step in self.steps:
            return
        leaves = tree.nest(tree.flatten(state))
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
            f"({_reason(error)}); {kept}. Make room or fix the folder, then run the same command."
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
                raise self._damaged(step, _reason(error)) from error
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
        differences = compare(self._shapes(step), wanted)
        if differences:
            raise GenaxError(
                f"checkpoint of step {step} in {self.directory} is of another model: "
                + "; ".join(differences[:5])
                + (f"; and {len(differences) - 5} more" if len(differences) > 5 else "")
                + ". Use the settings it was made with, or another workdir."
            )
        return tree.unflatten(self._load(step, wanted), like)

    def arrays(self, step: int) -> dict[str, jax.Array]:
        """Path to array, as saved, on this process's first device."""
        place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        wanted = {
            path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
            for path, leaf in self._shapes(step).items()
        }
        return self._load(step, wanted)

    def _shapes(self, step: int) -> dict[str, Any]:
        self.record(step)
        try:
            return tree.flatten(self._checkpointer.metadata(step).metadata)
        except Exception as error:
            raise self._damaged(step, _reason(error)) from error

    def _load(self, step: int, wanted: Mapping[str, Any]) -> dict[str, jax.Array]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loaded = self._checkpointer.load(step, tree.nest(wanted))
        except Exception as error:
            raise self._damaged(step, _reason(error)) from error
        return tree.flatten(loaded)

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


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


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


@dataclass(frozen=True)
class PartialLoad:
    """What a partial load did, by path: taken from the source, left in it, kept in the state."""

    taken: tuple[str, ...]
    left: tuple[str, ...]
    kept: tuple[str, ...]

    def __str__(self) -> str:
        parts = [
            f"{name} {len(paths)}: {', '.join(paths) or 'none'}"
            for name, paths in (
                ("taken", self.taken),
                ("left in the source", self.left),
                ("kept as initialised", self.kept),
            )
        ]
        return "\n".join(parts)


def load_from(
    folder: Any, state: TrainState, names: Mapping[str, str]
) -> tuple[TrainState, PartialLoad]:
    """`load_partial` of a folder's newest checkpoint; raises GenaxError if it has none."""
    checkpoints = (
        Checkpoints(folder, keep=None) if (epath.Path(folder) / "checkpoints").is_dir() else None
    )
    if checkpoints is None or not checkpoints.steps:
        raise GenaxError(f"{folder} holds no checkpoints to start from.")
    return load_partial(state, checkpoints.arrays(checkpoints.steps[-1]), names)


def load_partial(
    state: TrainState, source: Mapping[str, Any], names: Mapping[str, str]
) -> tuple[TrainState, PartialLoad]:
    """Replace parameters of `state`, and their averages, by those of a source that a map names.

    source: path to array, such as `Checkpoints.arrays`. names: old path to new path, each a
    parameter or a folder of them: {"params/decoder": "params/language_model"}.
    Raises GenaxError if a name matches nothing or a shape differs.
    """
    leaves = tree.flatten(state)
    taken: dict[str, str] = {}
    for old, new in names.items():
        found = {path: new + path[len(old) :] for path in source if tree.matches(old, path)}
        if not found:
            raise GenaxError(f"partial load: the source has nothing under {old!r}.")
        for path, target in found.items():
            if target not in leaves:
                raise GenaxError(f"partial load: {path} would go to {target}, which is not there.")
            if tuple(source[path].shape) != tuple(leaves[target].shape):
                raise GenaxError(
                    f"partial load: {path} has shape {tuple(source[path].shape)}, {target} has "
                    f"{tuple(leaves[target].shape)}."
                )
            taken[target] = path
    for target, path in list(taken.items()):
        leaf = leaves[target]
        leaves[target] = jax.device_put(source[path].astype(leaf.dtype), leaf.sharding)
        part, _, inside = target.partition("/")
        averaged = f"ema/{inside}"
        if part in ("params", "collections") and averaged in leaves and averaged not in taken:
            leaves[averaged] = jax.numpy.copy(leaves[target])
    report = PartialLoad(
        taken=tuple(sorted(taken)),
        left=tuple(sorted(set(source) - set(taken.values()))),
        kept=tuple(p for p in leaves if p.startswith("params/") and p not in taken),
    )
    return tree.unflatten(leaves, state), report
