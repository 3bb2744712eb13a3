"""A table: what a reader makes of a user's files, columns of values and rows by split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from genax.core.errors import GenaxError
from genax.data.fields import Field, Label, Labels, Text, Texts

# What a source may call its splits.
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
_OTHER = {"validation": "test", "test": "validation"}
# One row in so many is held out for each of the other splits.
_SHARE = 20


class Column(Protocol):
    """One part of all rows, such as all labels."""

    @property
    def field(self) -> Field:
        """What a value is."""
        ...

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray) -> list[Any]:
        """Return the values of rows, int64 [n]."""
        ...

    def digests(self) -> Sequence[bytes]:
        """Return a hash of the content of each row."""
        ...


@dataclass(frozen=True)
class Values:
    """A column in memory."""

    field: Field
    values: Sequence[Any]

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> list[Any]:
        """Return the values of rows, int64 [n]."""
        return [self.values[row] for row in rows.tolist()]

    def digests(self) -> Sequence[bytes]:
        """Return a hash of each value."""
        texts = (json.dumps(value, allow_nan=False) for value in self.values)
        return [hashlib.sha256(text.encode()).digest() for text in texts]


@dataclass(frozen=True)
class Table:
    """Rows of a user's files.

    columns: by the name of the part that they hold.
    splits: numbers of the rows of each split, int64 [n]; without one, rows are held out by their
      content, 5% each for "validation" and "test".
    whole: whether nothing is held out, as the reader of texts cuts them by position.
    says: what a user is told of the files, a line each.
    """

    columns: Mapping[str, Column]
    splits: Mapping[str, np.ndarray] = field(default_factory=dict)
    whole: bool = False
    says: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @cached_property
    def digests(self) -> list[bytes]:
        """A hash of each row's content."""
        columns = [column.digests() for _, column in sorted(self.columns.items())]
        if len(columns) == 1:
            return list(columns[0])
        return [hashlib.sha256(b"".join(parts)).digest() for parts in zip(*columns, strict=True)]

    @cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """Numbers of the rows of each split."""
        found = dict(self.splits) or {"train": np.arange(len(self), dtype=np.int64)}
        found = {split: found[split] for split in (*_SPLITS, *found) if split in found}
        if self.whole or list(found) != ["train"]:
            return found
        return _held_out(found["train"], self.digests)

    def named(self, split: str) -> str:
        """Return a split, or a slice of one, as the table has it.

        If only one of "validation" and "test" is there, it answers to both names.
        """
        for name, other in _OTHER.items():
            if name not in self.rows and other in self.rows:
                base, *rest = split.partition("[")
                split = "".join([other, *rest]) if base.strip() == name else split
        return split


def _held_out(rows: np.ndarray, digests: Sequence[bytes]) -> dict[str, np.ndarray]:
    """Return rows by split; rows of one content are in one split, whatever other rows there are."""
    keys = np.array([int.from_bytes(digests[row][:7], "big") for row in rows.tolist()], np.int64)
    part = keys % _SHARE
    test, validation = part == 0, part == 1
    distinct = np.unique(keys)
    if len(distinct) < 3:
        return {"train": rows}
    if not (test.any() and validation.any() and (~test & ~validation).any()):
        count = max(1, len(distinct) // _SHARE)
        test, validation = keys < distinct[count], keys >= distinct[-count]
    return {
        "train": rows[~test & ~validation],
        "validation": rows[validation],
        "test": rows[test],
    }


def split_name(name: str) -> str | None:
    """Return the split that a folder or a file is called after, if any."""
    lower = name.lower()
    return next((split for split, names in _SPLITS.items() if lower in names), None)


def with_classes(table: Table, names: Sequence[str]) -> Table:
    """Return the table with texts as classes, sorted by name, in columns of these names."""
    columns, says = dict(table.columns), list(table.says)
    for name in names:
        column = columns.get(name)
        if column is None or not isinstance(column.field, Text | Texts):
            continue
        values = column.take(np.arange(len(column)))
        listed = isinstance(column.field, Texts)
        flat = [one for value in values for one in value] if listed else values
        classes = tuple(sorted(set(flat)))
        numbers = {one: number for number, one in enumerate(classes)}
        if listed:
            found = [tuple(numbers[one] for one in value) for value in values]
            columns[name] = Values(Labels(len(classes), classes), found)
        else:
            columns[name] = Values(Label(len(classes), classes), [numbers[v] for v in values])
        says.append(f"{name}: {said_classes(classes)}")
    return replace(table, columns=columns, says=tuple(says))


def said_classes(classes: Sequence[str]) -> str:
    """Return the numbers and names of classes in a line."""
    shown = ", ".join(f"{number} {name}" for number, name in enumerate(classes[:20]))
    more = f" and {len(classes) - 20} more" if len(classes) > 20 else ""
    noun = "class" if len(classes) == 1 else "classes"
    return f"{len(classes)} {noun}, {shown}{more}"


@dataclass
class Damaged:
    """What cannot be read of a set: refused at once, or left out and counted.

    how: "refuse" or "skip".
    """

    how: str
    found: dict[str, str] = field(default_factory=dict)

    def add(self, place: str, reason: str) -> None:
        """Note a file or line, and why it cannot be read."""
        self.found[place] = reason

    def check(self) -> None:
        """Raise GenaxError if anything was found that is refused."""
        if self.how == "skip" or not self.found:
            return
        place, reason = next(iter(self.found.items()))
        others = len(self.found) - 1
        more = f", and {others} more" if others else ""
        raise GenaxError(
            f"{place} cannot be read ({reason}){more}; repair or remove what is damaged, or leave "
            "it out with config.damaged=skip."
        )

    @property
    def says(self) -> tuple[str, ...]:
        """A line that counts what was left out, if anything was."""
        if not self.found:
            return ()
        shown = ", ".join(list(self.found)[:5]) + (", ..." if len(self.found) > 5 else "")
        return (f"left out as damaged: {len(self.found)} ({shown})",)
