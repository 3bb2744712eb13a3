"""Readers of sets of every combination of a few factors, one white figure on black an image."""

from __future__ import annotations

import itertools
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# In the order in which the last one changes first. The colour of dSprites, always white, is left
# out.
DSPRITES_FACTORS = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
SHAPES_FACTORS = {"shape": 3, "scale": 4, "x": 8, "y": 8}
SHAPES_SIDE = 16


def combinations(factors: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Return every combination of values, that of the last factor changing first."""
    for values in itertools.product(*map(range, factors.values())):
        yield dict(zip(factors, values, strict=True))


def read_shapes() -> dict[str, list[dict[str, Any]]]:
    """Return squares, discs and crosses of half sides 1.5 to 3 at places 1.25 pixels apart."""
    rows, columns = np.mgrid[:SHAPES_SIDE, :SHAPES_SIDE]

    def drawn(shape: int, scale: int, x: int, y: int) -> np.ndarray:
        down, right = (
            np.abs(axis - (SHAPES_SIDE - 1) / 2 - (place - 3.5) * 1.25)
            for axis, place in ((rows, y), (columns, x))
        )
        half = 1.5 + scale / 2
        inside = (
            np.maximum(down, right) <= half,
            down**2 + right**2 <= half**2,
            (np.maximum(down, right) <= half) & (np.minimum(down, right) <= half / 3),
        )[shape]
        return np.where(inside, 255, 0).astype(np.uint8)[..., None]

    every = combinations(SHAPES_FACTORS)
    return {"train": [{"image": drawn(**factors), **factors} for factors in every]}


@dataclass(frozen=True)
class _Sprites:
    """Images of an array in an .npz file, one at a time, with their factors."""

    path: Path
    factors: Mapping[str, int]

    def __len__(self) -> int:
        return math.prod(self.factors.values())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with zipfile.ZipFile(self.path) as archive, archive.open("imgs.npy") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"imgs of {self.path.name} is of version {version}")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            if fortran or dtype != np.uint8 or len(shape) != 3 or shape[0] != len(self):
                raise ValueError(f"imgs of {self.path.name} is {dtype}{shape}")
            size = math.prod(shape[1:])
            for factors in combinations(self.factors):
                pixels = np.frombuffer(file.read(size), np.uint8).reshape(*shape[1:], 1)
                yield {"image": 255 * pixels, **factors}


def read_dsprites(folder: Path) -> Mapping[str, _Sprites]:
    """Read dSprites, of which 3 GB are never in memory at once.

    The factors are those of the images' order, which is the file's own rule.
    """
    found = list(folder.rglob("dsprites_*.npz"))
    if len(found) != 1:
        raise ValueError(f"{len(found)} files named dsprites_*.npz, expected one")
    return {"train": _Sprites(found[0], DSPRITES_FACTORS)}
