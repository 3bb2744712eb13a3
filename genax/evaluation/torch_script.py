"""The tensors of a TorchScript archive, read without PyTorch and without running what it holds."""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from genax.core.errors import GenaxError


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Return the float32 tensors of an archive by their dotted paths, such as "net.conv.weight".

    The archive's pickle may name tensors, lists and modules of the archive, and nothing else. Its
    code is not read.
    Raises GenaxError for anything else, and for a file that is no such archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            [place] = [
                name
                for name in archive.namelist()
                if name.count("/") == 1 and name.endswith("/data.pkl")
            ]
            with archive.open(place) as file:
                root = _Reader(file, archive, place.partition("/")[0]).load()
    except GenaxError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its opcodes run into
        raise GenaxError(f"{path} is no TorchScript archive that can be read: {error}.") from error
    found: dict[str, np.ndarray] = {}
    _collect(root, "", found)
    return found


class _Module:
    """A module of the archive: its attributes by name."""


class _FloatStorage:
    """The type of a storage of float32."""


def _tensor(storage: np.ndarray, offset: int, size: tuple, stride: tuple, *_: Any) -> np.ndarray:
    """Return a tensor of a storage, as `torch._utils._rebuild_tensor_v2` does."""
    count = math.prod(size)
    expected = tuple(math.prod(size[axis + 1 :]) for axis in range(len(size)))
    if stride != expected or offset < 0 or offset + count > len(storage):
        raise ValueError(f"a tensor of shape {size} has the strides {stride}")
    return storage[offset : offset + count].reshape(size)


ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "FloatStorage"): _FloatStorage,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.jit._pickle", "build_intlist"): list,
}


class _Reader(pickle.Unpickler):
    """An unpickler that calls what `ALLOWED` names only."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, root: str):
        super().__init__(file)
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name of the pickle."""
        if module.partition(".")[0] == "__torch__":
            return _Module
        if (module, name) not in ALLOWED:
            raise GenaxError(
                f"the pickle of {self._archive.filename} asks for {module}.{name}, which tensors "
                "do not need; it was not run."
            )
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Return the numbers of a storage."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or dtype is not _FloatStorage or not str(key).isdigit():
            raise ValueError(f"it holds {pid!r:.100}, which is no storage of float32")
        numbers = np.frombuffer(self._archive.read(f"{self._root}/data/{key}"), "<f4")
        if len(numbers) != count:
            raise ValueError(f"storage {key} holds {len(numbers)} numbers, not {count}")
        return numbers


def _collect(value: Any, path: str, found: dict[str, np.ndarray]) -> None:
    if isinstance(value, np.ndarray):
        found[path] = value
    elif isinstance(value, _Module):
        for name, part in vars(value).items():
            _collect(part, f"{path}.{name}" if path else name, found)
