"""A user's own files as a set: splits, records read by number, fingerprints of the content."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from genax.core.errors import GenaxError
from genax.data.fields import Field, Image
from genax.data.own.forms import open_table
from genax.data.own.pictures import DamagedPictureError
from genax.data.own.table import Table
from genax.data.sets.catalogue import Example
from genax.data.sets.records import Records, bytes_of, columns_of, resize
from genax.data.sets.split_slices import memory_parts

# Decoded pictures are kept if those of a split need no more bytes.
_KEPT = 1 << 27


@dataclass(frozen=True)
class OwnSet:
    """The set "FORM:PATH", looked at once.

    damaged, classes: see `open_set`.
    """

    name: str
    damaged: str = "refuse"
    classes: tuple[str, ...] = ()
    catalogued = False

    @cached_property
    def table(self) -> Table:
        """The columns, and the rows of each split."""
        return open_table(self.name, self.damaged, self.classes)

    @property
    def fields(self) -> Mapping[str, Field]:
        """What an example holds."""
        return {name: column.field for name, column in self.table.columns.items()}

    @property
    def splits(self) -> Sequence[str]:
        """Names of the splits."""
        return tuple(self.table.rows)

    @property
    def says(self) -> Sequence[str]:
        """How many examples each split has, classes, and what is converted or left out."""
        counts = ", ".join(f"{len(rows):,} {split}" for split, rows in self.table.rows.items())
        # What is cut by position has no examples to count.
        lines = self.table.says if self.table.whole else (counts, *self.table.says)
        return [f"{self.name}: {line}" for line in lines]

    def rows(self, split: str) -> np.ndarray:
        """Return the numbers of the rows of a split, or of a slice of one, int64 [n]."""
        rows = self.table.rows
        sizes = {name: len(found) for name, found in rows.items()}
        parts = memory_parts(self.name, self.table.named(split), sizes)
        return np.concatenate([rows[part.split][part.start : part.stop] for part in parts])

    def records(self, split: str, fields: Mapping[str, Field], size: int | None = None) -> Records:
        """Return a split whose pictures are decoded as they are read."""
        return OwnRecords(self, self.rows(split), fields, size)

    def examples(self, split: str) -> Sequence[Example]:
        """Return all examples of a split."""
        rows = self.rows(split)
        columns = {name: column.take(rows) for name, column in self.table.columns.items()}
        return [
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ]

    def fingerprint(self, split: str) -> str:
        """SHA-256 (hex) of the rows' content, and of what they are read as."""
        return self.digest(self.rows(split))

    def digest(self, rows: np.ndarray) -> str:
        """SHA-256 (hex) of the content of rows, and of what they are read as."""
        digests = self.table.digests
        digest = hashlib.sha256(repr(sorted(self.fields.items())).encode())
        for row in rows.tolist():
            digest.update(digests[row])
        return digest.hexdigest()


@dataclass(frozen=True)
class OwnRecords:
    """A split of a user's own files; a small one's pictures are kept when they have been decoded.

    A picture that turns out to be damaged only now is refused, or the next one takes its place.
    """

    source: OwnSet
    rows: np.ndarray
    fields: Mapping[str, Field]
    size: int | None
    _kept: dict[int, tuple[int, Mapping[str, np.ndarray]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @cached_property
    def images(self) -> Mapping[str, Image]:
        """The fields that are pictures."""
        return {name: one for name, one in self.fields.items() if isinstance(one, Image)}

    @property
    def threads(self) -> int:
        """Eight hide the latency of a disk and of decoding."""
        return 8 if self.images else 1

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """ids: int64 [b]. Returns arrays [b, ...]."""
        found = [self._pictures(place) for place in ids.tolist()] if self.images else []
        rows = np.array([row for row, _ in found], np.int64) if found else self.rows[ids]
        columns = self.source.table.columns
        parts = {
            name: [pixels[name] for _, pixels in found]
            if name in self.images
            else columns[name].take(rows)
            for name in self.fields
        }
        examples = [
            dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)
        ]
        return columns_of(self.source.name, examples, self.fields, None)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the rows' content."""
        return self.source.digest(self.rows)

    def _pictures(self, place: int) -> tuple[int, Mapping[str, np.ndarray]]:
        """Return the row at a place of the split, and its pictures."""
        if place in self._kept:
            return self._kept[place]
        for shift in range(len(self) if self._skips else 1):
            row = int(self.rows[(place + shift) % len(self)])
            try:
                found = {name: self._pixels(name, row) for name in self.images}
            except DamagedPictureError as error:
                if not self._skips:
                    raise
                warnings.warn(f"left out: {error.place} ({error.reason})", stacklevel=2)
                continue
            if self._keeps:
                self._kept[place] = row, found
            return row, found
        raise GenaxError(f"{self.source.name} holds no picture that can be read.")

    def _pixels(self, name: str, row: int) -> np.ndarray:
        (pixels,) = self.source.table.columns[name].take(np.array([row]))
        return pixels if self.size is None else resize(pixels, self.size)

    @property
    def _skips(self) -> bool:
        return self.source.damaged == "skip"

    @cached_property
    def _keeps(self) -> bool:
        return len(self) * bytes_of(self.images.values(), self.size) <= _KEPT
