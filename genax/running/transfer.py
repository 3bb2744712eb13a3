"""Parameters of one run, or of another library's weights, for another run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from etils import epath

from genax.core import tree
from genax.core.errors import GenaxError
from genax.core.task import TrainState
from genax.nn.stack import with_layers_of
from genax.running.checkpoint import FIXED, Checkpoints

# Where a run keeps the files of the Hugging Face model that it started from.
HUGGING_FACE = "hugging_face"


@runtime_checkable
class Weights(Protocol):
    """Parameters that no folder of a run holds, such as published ones of a package.

    str() of it says what they are, the same in every process.
    """

    def arrays(self) -> Mapping[str, Any]:
        """Path to array, such as "params/features/kernel"; reads or fetches them."""
        ...


@dataclass(frozen=True)
class PartialLoad:
    """What a partial load did, by path: taken from the source, left in it, kept in the state.

    cast: those taken that have another dtype in the state.
    """

    taken: tuple[str, ...]
    left: tuple[str, ...]
    kept: tuple[str, ...]
    cast: tuple[str, ...]

    @property
    def tables(self) -> tuple[str, ...]:
        """Paths of the tables taken, such as that of the tokens, as Linen's `Embed` has them."""
        return tuple(path for path in self.taken if path.endswith("/embedding"))

    def __str__(self) -> str:
        parts = [
            f"{name} {len(paths)}: {', '.join(_short(paths)) or 'none'}"
            for name, paths in (
                ("taken", self.taken),
                ("left in the source", self.left),
                ("kept as initialised", self.kept),
                ("cast to another dtype", self.cast),
            )
        ]
        return "\n".join(parts)


def _short(paths: Sequence[str]) -> Sequence[str]:
    """Return the paths, or if there are many, those of all layers as one."""
    if len(paths) <= 20:
        return paths
    return list(dict.fromkeys(re.sub(r"_\d+(?=/)", "_*", path) for path in paths))


def load_from(
    folder: Any, state: TrainState, names: Mapping[str, str]
) -> tuple[TrainState, PartialLoad]:
    """`load_partial` of a folder's newest checkpoint, or of `Weights` in its place.

    Raises GenaxError if the folder has no checkpoint.
    """
    if isinstance(folder, Weights):
        return load_partial(state, folder.arrays(), names)
    checkpoints = (
        Checkpoints(folder, keep=None) if (epath.Path(folder) / "checkpoints").is_dir() else None
    )
    if checkpoints is None or not checkpoints.steps:
        raise GenaxError(f"{folder} holds no checkpoints to start from.")
    return load_partial(state, checkpoints.arrays(checkpoints.steps[-1]), names)


def keep_files(folder: Any, workdir: Any) -> None:
    """Copy the files of a Hugging Face model from one run's folder to another's, if it has any."""
    files = epath.Path(folder) / HUGGING_FACE
    if not files.is_dir():
        return
    kept = epath.Path(workdir) / HUGGING_FACE
    kept.mkdir(parents=True, exist_ok=True)
    for path in files.iterdir():
        path.copy(kept / path.name, overwrite=True)


def load_partial(
    state: TrainState, source: Mapping[str, Any], names: Mapping[str, str]
) -> tuple[TrainState, PartialLoad]:
    """Replace parameters of `state`, and their averages, by those of a source that a map names.

    source: path to array, such as `Checkpoints.arrays`. names: old path patterns to new ones, each
    of which takes all below it: {"params/decoder": "params/language_model"}; see `renamed`.
    Layers are stacked, or taken out of a stack, as the state has them.
    Raises GenaxError if a name matches nothing, a layer is missing or a shape differs.
    """
    leaves = tree.flatten(state)
    places = {path.removeprefix(FIXED): path for path in leaves}
    origins: dict[str, str] = {}
    for old, new in names.items():
        found = {path: renamed(path, old, new) for path in source}
        if not any(found.values()):
            raise GenaxError(f"partial load: the source has nothing under {old!r}.")
        origins |= {target: path for path, target in found.items() if target is not None}
    arrays = {target: source[path] for target, path in origins.items()}
    taken = with_layers_of(places, arrays)
    for target, array in taken.items():
        origin = origins.get(target, "what is made of the source's layers")
        if target not in places:
            raise GenaxError(f"partial load: {origin} would go to {target}, which is not there.")
        leaf = leaves[places[target]]
        if tuple(array.shape) != tuple(leaf.shape):
            raise GenaxError(
                f"partial load: {origin} has shape {tuple(array.shape)}, {target} has "
                f"{tuple(leaf.shape)}."
            )
    for target, array in taken.items():
        leaf = leaves[places[target]]
        leaves[places[target]] = _placed(np.array(array).astype(leaf.dtype), leaf.sharding)
        part, _, inside = target.partition("/")
        averaged = f"ema/{inside}"
        if part in ("params", "collections") and averaged in leaves and averaged not in taken:
            leaves[averaged] = jax.numpy.copy(leaves[target])
    report = PartialLoad(
        taken=tuple(sorted(taken)),
        left=tuple(sorted(set(source) - set(origins.values()))),
        kept=tuple(sorted(p for p in places if p.startswith("params/") and p not in taken)),
        cast=tuple(p for p in sorted(taken) if taken[p].dtype != leaves[places[p]].dtype),
    )
    return tree.unflatten(leaves, state), report


def _placed(array: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
    """An array that each process holds, on the devices of all."""
    return jax.make_array_from_callback(array.shape, sharding, lambda part: array[part])


def renamed(path: str, old: str, new: str) -> str | None:
    """The path that takes the place of one which the pattern `old` names; None for another path.

    new: a pattern with as many wildcards, each of which stands for what that of `old` matches.
    Raises GenaxError for another number of them.
    """
    if tree.expression(old).groups != tree.expression(new).groups:
        raise GenaxError(f"{old!r} and {new!r} have different numbers of wildcards.")
    found = tree.expression(old).fullmatch(path)
    if found is None:
        return None
    *wild, below = found.groups(default="")
    parts = (
        wild.pop(0) if part == "**" else re.sub(r"\*", lambda _: wild.pop(0), part)
        for part in new.split("/")
    )
    return "/".join(parts) + below
