"""Mistakes in a user's own functions and data, said in a sentence before the first step."""

from __future__ import annotations

import contextlib
import inspect
import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from genax.core import tree
from genax.core.data import BatchIterator, numeric
from genax.core.errors import GenaxError
from genax.core.task import Task

# Names that a batch gets from the step, the evaluation and the log.
_OWN = ("id", "index", "mask", "stage", "step")
# Groups of the log that no phase may be named after.
_GROUPS = ("eval", "time", "samples")

Element = Mapping[str, Any]


@contextlib.contextmanager
def told(whose: str) -> Iterator[None]:
    """Turn what a user's function raises into a GenaxError that names the function.

    whose: the function, such as "sampler 'images'".
    """
    try:
        yield
    except GenaxError as error:
        raise GenaxError(f"{whose}: {error}") from error
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
        place = f"{own[-1].filename}, line {own[-1].lineno}"
        raise GenaxError(f"{whose} fails: {type(error).__name__}: {said} ({place})") from error


def check_names(task: Task) -> None:
    """Raise GenaxError for a name that cannot be part of a metric's name and of a file's."""
    phases = [phase.name for stage in task.stages for phase in stage.phases]
    kinds = {"phase": phases, "sampler": task.samplers, "evaluator": task.evaluators}
    for kind, name in ((kind, name) for kind, names in kinds.items() for name in names):
        if not re.fullmatch(r"[\w.-]+", name) or (kind == "phase" and name in _GROUPS):
            raise GenaxError(
                f"a {kind} is named {name!r}; a name has letters, digits, '_', '-' and '.' only, "
                f"and no phase is named {', '.join(_GROUPS)}."
            )


def check_trained(task: Task, params: Mapping[str, Any]) -> None:
    """Raise GenaxError for a network that no phase trains, though nothing says it is fixed.

    params: parameters, or their shapes, without those that are fixed.
    """
    patterns = [
        pattern for stage in task.stages for phase in stage.phases for pattern in phase.trains
    ]
    for network, part in params.items():
        paths = tree.flatten({network: part})
        if not any(tree.matches(pattern, path) for pattern in patterns for path in paths):
            raise GenaxError(
                f"no phase trains the network {network!r}, which would stay as it was drawn; name "
                "it in the trains of a phase, or in Task.fixed if it never changes."
            )


def check_rows(what: str, shapes: Any, size: int) -> None:
    """Raise GenaxError if a function did not return arrays with one row per element.

    what: the thing that a row is, for the message.
    """
    leaves = tree.flatten(shapes)
    wrong = {path: leaf.shape for path, leaf in leaves.items() if leaf.shape[:1] != (size,)}
    if wrong or not leaves:
        path, shape = next(iter(wrong.items()), ("", None))
        found = "nothing" if shape is None else f"{path and f'{path} of '}shape {list(shape)}"
        raise GenaxError(
            f"it returned {found} for {size} elements; it returns one {what} for each."
        )


class Checked:
    """The batches of an iterator, the first of which is held against what the data promises.

    element: see `Data.element`.
    size: examples of this process's part of a batch.
    """

    def __init__(self, batches: BatchIterator, element: Element, size: int):
        self._batches, self._promised = batches, (element, size)
        self._seen = False

    def __iter__(self) -> Checked:
        return self

    def __next__(self) -> Mapping[str, np.ndarray]:
        batch = next(self._batches)
        if not self._seen:
            check_batch("a training batch", batch, *self._promised)
            if "id" not in batch:
                raise GenaxError('a training batch has no "id", the numbers of its records.')
            self._seen = True
        return batch

    def get_state(self) -> Mapping[str, int]:
        """Return the iterator's position."""
        return self._batches.get_state()

    def set_state(self, state: Mapping[str, int]) -> None:
        """Set the iterator's position."""
        self._batches.set_state(state)


def check_data(what: str, data: Any, *needed: str) -> None:
    """Raise GenaxError for data that lacks a part of the protocol `Data`.

    what: the data, for the message.
    """
    missing = [name for name in needed if inspect.getattr_static(data, name, None) is None]
    if missing:
        raise GenaxError(
            f"{what} is a {type(data).__name__} without {', '.join(missing)}; it is an object of "
            "the protocol genax.core.data.Data."
        )


def check_element(element: Element) -> None:
    """Raise GenaxError for an example with an array that the step would replace by its own."""
    taken = sorted(set(element) & set(_OWN))
    if taken:
        raise GenaxError(
            f"data.element has {', '.join(map(repr, taken))}, which a batch gets from genax "
            f"itself, as it does {', '.join(_OWN)}; choose another name."
        )


def check_batch(what: str, batch: Mapping[str, Any], element: Element, size: int) -> None:
    """Raise GenaxError if a batch is not what `Data.element` promises.

    what: the batch, for the message.
    """
    check_element(element)
    found = {
        name: array
        for name, array in numeric(jax.tree.map(np.asarray, dict(batch))).items()
        if name not in _OWN and not name.endswith("_mask")
    }
    for name in sorted(set(element) ^ set(found)):
        has, lacks = ("data.element", what) if name in element else (what, "data.element")
        both = ", ".join(sorted(set(element) & set(found))) or "nothing"
        raise GenaxError(
            f"{has} has {name!r}, but {lacks} has not (in both: {both}); both name the same arrays."
        )
    for name, promised in element.items():
        array, shape = found[name], (size, *promised.shape)
        if array.shape != shape or array.dtype != promised.dtype:
            raise GenaxError(
                f"{what} has {name!r} as {array.dtype}{list(array.shape)}, but data.element "
                f"promises {np.dtype(promised.dtype)}{list(shape)}; change one of them."
            )
