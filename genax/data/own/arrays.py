"""npz:PATH, arrays by name: image, label and what else there is, with or without splits."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from genax.core.errors import GenaxError
from genax.data.fields import Field, Image, Number, Other, Real, Text
from genax.data.own.files import Files, files_by_split
from genax.data.own.table import Column, Damaged, Table, split_name

# What others call the parts.
_NAMES = {
    "image": ("image", "images", "x", "data", "pixels"),
    "label": ("label", "labels", "y", "target", "targets", "class"),
}


@dataclass(frozen=True)
class Rows:
    """A column of arrays that lie one after the other, such as those of several splits."""

    parts: Sequence[np.ndarray]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @cached_property
    def field(self) -> Field:
        """What fits the type and the shape."""
        shape, kind = self.parts[0].shape[1:], self.parts[0].dtype.kind
        if len(shape) in (2, 3) and self._scale:
            return Image(*shape, *([1] if len(shape) == 2 else []))
        if shape == ():
            return {"i": Number(), "u": Number(), "b": Number(), "f": Real(), "U": Text()}.get(
                kind, Other(str(self.parts[0].dtype))
            )
        return Other(f"{self.parts[0].dtype}{list(shape)}")

    @cached_property
    def _scale(self) -> int:
        """What pixels are multiplied by to be in 0 to 255; 0 means that they are no pixels."""
        if self.parts[0].dtype == np.uint8:
            return 1
        if self.parts[0].dtype.kind != "f":
            return 0
        ends = [(part.min(initial=0), part.max(initial=0)) for part in self.parts]
        return 255 if all(least >= 0 and most <= 1 for least, most in ends) else 0

    def take(self, rows: np.ndarray) -> list[Any]:
        """Return the values of rows, int64 [n]."""
        starts = np.cumsum([0, *map(len, self.parts)])
        which = np.searchsorted(starts, rows, side="right") - 1
        found = [self.parts[p][row - starts[p]] for p, row in zip(which, rows, strict=True)]
        if isinstance(self.field, Image):
            return [self._pixels(one) for one in found]
        return [one.item() for one in found] if self.parts[0].ndim == 1 else found

    def _pixels(self, one: np.ndarray) -> np.ndarray:
        pixels = one if self._scale == 1 else np.rint(one * 255).astype(np.uint8)
        return pixels[..., None] if pixels.ndim == 2 else pixels

    def digests(self) -> Sequence[bytes]:
        """Return a hash of each row."""
        return [sha256(row.tobytes()).digest() for part in self.parts for row in part]

    @property
    def says(self) -> tuple[str, ...]:
        """Whether pixels are converted."""
        converted = isinstance(self.field, Image) and self._scale != 1
        return ("converted: pixels from 0 to 1, to 0 to 255",) if converted else ()


def read_npz(files: Files, damaged: Damaged) -> Table:
    """Return the arrays of a file, or of those of a folder that are called after splits.

    An array may name its split: "x_train", "test_labels". Raises GenaxError for arrays that do not
    belong together.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for split, paths in files_by_split(files, (".npz",)).items():
        for path in paths:
            for name, array in _arrays(path).items():
                own, part = _named(name)
                if not array.ndim:
                    continue
                if part in found.setdefault(own or split, {}):
                    raise GenaxError(
                        f"{path} has a second array of {part} ({name}); give each split a name "
                        "of its own, such as x_train and x_test, or one file, train.npz."
                    )
                found[own or split][part] = array
    names = {part for arrays in found.values() for part in arrays}
    if not names:
        raise GenaxError(f"npz:{files.path} holds no arrays.")
    for split, arrays in found.items():
        lengths = {part: len(array) for part, array in sorted(arrays.items())}
        if len(set(lengths.values())) > 1 or arrays.keys() != names:
            raise GenaxError(
                f"npz:{files.path} has {split or 'arrays'} of the lengths {lengths}; each of "
                f"{', '.join(sorted(names))} needs one row an example in every split."
            )
    columns: dict[str, Column] = {}
    says: list[str] = []
    for name in sorted(names):
        column = Rows([arrays[name] for arrays in found.values()])
        if len({(part.shape[1:], part.dtype.kind) for part in column.parts}) > 1:
            raise GenaxError(f"npz:{files.path}: {name} has other shapes or types in one split.")
        columns[name] = column
        says += column.says
    return Table(columns, _splits(found, names), says=tuple(says))


def _splits(found: Mapping[str, Mapping[str, Any]], names: set[str]) -> dict[str, np.ndarray]:
    if list(found) == [""]:
        return {}
    splits, start = {}, 0
    for split, arrays in found.items():
        stop = start + len(arrays[min(names)])
        splits[split or "train"] = np.arange(start, stop, dtype=np.int64)
        start = stop
    return splits


def _named(name: str) -> tuple[str, str]:
    """Return the split, "" if it is not named, and the part that an array is called after."""
    words = re.split(r"[_\-. ]+", name.lower())
    split = next(filter(None, map(split_name, words)), "")
    rest = "_".join(word for word in words if split_name(word) is None)
    part = next((part for part, names in _NAMES.items() if rest in names), rest)
    return split, part or name


def _arrays(path: str) -> dict[str, np.ndarray]:
    """Return the arrays of a file; those that are not compressed stay on the disk."""
    try:
        with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as arrays:
            return {
                info.filename.removesuffix(".npy"): _mapped(path, info)
                if info.compress_type == zipfile.ZIP_STORED
                else arrays[info.filename.removesuffix(".npy")]
                for info in archive.infolist()
                if info.filename.endswith(".npy")
            }
    except (ValueError, zipfile.BadZipFile, KeyError, EOFError) as error:
        raise GenaxError(f"{path} cannot be read as arrays ({error}); save it again.") from error


def _mapped(path: str, info: zipfile.ZipInfo) -> np.ndarray:
    with Path(path).open("rb") as file:
        # The lengths of name and extra field, by which the content follows the local header.
        file.seek(info.header_offset + 26)
        name, extra = np.frombuffer(file.read(4), "<u2").tolist()
        file.seek(info.header_offset + 30 + name + extra)
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"{info.filename} is of version {version}")
        shape, fortran, dtype = read(file)
        if dtype.hasobject or not np.prod(shape):
            raise ValueError(f"{info.filename} holds objects or nothing")
        start = file.tell()
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")
