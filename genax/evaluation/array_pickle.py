"""Arrays of a pickle, read without running what it holds."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from genax.core.errors import GenaxError


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the float32 arrays of nested dicts by their paths, such as "layer/kernel".

    Raises GenaxError for a pickle that asks for anything but such arrays, and for a damaged file.
    """
    try:
        with path.open("rb") as file:
            root = _Reader(file, str(path)).load()
        found: dict[str, np.ndarray] = {}
        _collect(root, "", found)
    except GenaxError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its opcodes run into
        raise GenaxError(f"{path} is no pickle of arrays that can be read: {error}.") from error
    return found


class _Dtype:
    """The dtype float32, the only one that is read."""

    def __init__(self, kind: str, *_: Any):
        if kind != "f4":
            raise ValueError(f"it holds an array of {kind!r}")

    def __setstate__(self, state: tuple) -> None:
        if state[1] != "<":
            raise ValueError(f"it holds numbers of the byte order {state[1]!r}")


class _Array:
    """An array whose numbers follow."""

    array: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, by_columns, content = state
        if type(dtype) is not _Dtype or by_columns or type(content) is not bytes:
            raise ValueError("it holds an array that is not of float32 by rows")
        if len(content) != 4 * math.prod(shape):
            raise ValueError(f"an array of shape {shape} has {len(content)} bytes")
        self.array = np.frombuffer(content, "<f4").reshape(shape)


def _new_array(*_: Any) -> _Array:
    """Return what stands for numpy's `_reconstruct`: an array without numbers yet."""
    return _Array()


ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy._core.multiarray", "_reconstruct"): _new_array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
}


class _Reader(pickle.Unpickler):
    """An unpickler that knows what `ALLOWED` names only."""

    def __init__(self, file: Any, name: str):
        super().__init__(file)
        self._name = name

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name of the pickle."""
        if (module, name) not in ALLOWED:
            raise GenaxError(
                f"the pickle {self._name} asks for {module}.{name}, which arrays do not need; it "
                "was not run."
            )
        return ALLOWED[module, name]


def _collect(value: Any, path: str, found: dict[str, np.ndarray]) -> None:
    if isinstance(value, _Array):
        found[path] = value.array
        return
    if not isinstance(value, dict):
        raise ValueError(f"it holds {type(value).__name__} at {path or 'its root'}")
    for name, part in value.items():
        _collect(part, f"{path}/{name}" if path else str(name), found)
