"""A data set by its name: of the catalogue, of TensorFlow Datasets, or of a user's own files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from genax.data.fields import Field
from genax.data.own.forms import form_of
from genax.data.sets.catalogue import Example, KnownSet, known_set
from genax.data.sets.own_sets import OwnSet
from genax.data.sets.records import MemoryRecords, Records, Stored, StoredRecords, columns_of
from genax.data.sets.split_slices import check_split_names, take_split
from genax.data.sets.tfds_fields import fields_of
from genax.data.sets.tfds_sets import PREFIX, known_builder, open_split, read_split, tfds_builder


class NamedSet(Protocol):
    """What a name stands for; whoever reads a set knows no more of it.

    A method that reads raises GenaxError for an unknown split or slice, and for a set that is not
    prepared.
    """

    @property
    def catalogued(self) -> bool:
        """Whether genax knows the set, and so what reads it."""
        ...

    @property
    def fields(self) -> Mapping[str, Field]:
        """What an example holds."""
        ...

    @property
    def splits(self) -> Sequence[str]:
        """Names of the splits; only "train" if they are not known yet."""
        ...

    @property
    def says(self) -> Sequence[str]:
        """What a user is told of the set, a line each."""
        ...

    def records(self, split: str, fields: Mapping[str, Field], size: int | None = None) -> Records:
        """Return a split, or a slice of one, to be read by number.

        fields: which are read.
        size: images are resized to size x size; None is as they are.
        """
        ...

    def examples(self, split: str) -> Sequence[Example]:
        """Return all examples of a split, or of a slice of one."""
        ...

    def fingerprint(self, split: str) -> str:
        """Return a SHA-256 (hex) that changes with the texts and numbers of a split."""
        ...


def open_set(name: str, damaged: str = "refuse", classes: Sequence[str] = ()) -> NamedSet:
    """Return the set of a name. Raises GenaxError for an unknown one.

    damaged: what is done with files and lines of a user's own that cannot be read: "refuse", or
      "skip" to leave them out and count them.
    classes: parts of a user's own examples that are classes, also if they are texts.
    """
    if form_of(name) is not None:
        return OwnSet(name, damaged, tuple(classes))
    if name.startswith(PREFIX):
        return StoredSet(name)
    known = known_set(name)
    return StoredSet(name, known) if known.packages else EmbeddedSet(known)


def identity(name: str) -> str:
    """Return what a fingerprint knows a set by, besides its content: not where files lie."""
    form = form_of(name)
    return name if form is None else f"{form}:"


@dataclass(frozen=True)
class EmbeddedSet:
    """A set of the catalogue that is read whole, without preparation."""

    known: KnownSet
    catalogued = True
    says = ()

    @property
    def fields(self) -> Mapping[str, Field]:
        """What an example holds."""
        return self.known.fields

    @property
    def splits(self) -> Sequence[str]:
        """Names of the splits."""
        return tuple(self.known.counts)

    @cached_property
    def _examples(self) -> Mapping[str, Sequence[Example]]:
        return {split: tuple(rows) for split, rows in self.known.read().items()}

    def records(self, split: str, fields: Mapping[str, Field], size: int | None = None) -> Records:
        """Return a split in memory."""
        return MemoryRecords(columns_of(self.known.name, self.examples(split), fields, size))

    def examples(self, split: str) -> Sequence[Example]:
        """Return all examples of a split."""
        check_split_names(self.known.name, split, self.splits)
        return take_split(self.known.name, split, self._examples)

    def fingerprint(self, split: str) -> str:
        """SHA-256 (hex) of the examples as JSON."""
        content = json.dumps(self.examples(split), allow_nan=False)
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class StoredSet:
    """A prepared set: of the catalogue if `known` is there, or any other of TFDS."""

    name: str
    known: KnownSet | None = None
    says = ()

    @property
    def catalogued(self) -> bool:
        """Whether it is of the catalogue."""
        return self.known is not None

    @cached_property
    def _stored(self) -> Stored:
        if self.known is not None:
            return Stored(known_builder(self.known), self.known)
        return Stored(tfds_builder(self.name), None)

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        """What an example holds; reads no data."""
        if self.known is not None:
            return self.known.fields
        return fields_of(self._stored.builder.info.features)

    @property
    def splits(self) -> Sequence[str]:
        """Names of the splits."""
        if self.known is not None:
            return tuple(self.known.counts)
        builder = self._stored.builder
        return tuple(builder.info.splits) if builder.is_prepared() else ("train",)

    def records(self, split: str, fields: Mapping[str, Field], size: int | None = None) -> Records:
        """Return a split of the prepared files."""
        self._check(split)
        source = open_split(self._stored.builder, self.name, split)
        return StoredRecords(self.name, self._stored, source, fields, size)

    def examples(self, split: str) -> Sequence[Example]:
        """Return all examples of a split."""
        self._check(split)
        records = read_split(self._stored.builder, self.name, split)
        return [self._stored.example(record) for record in records]

    def fingerprint(self, split: str) -> str:
        """SHA-256 (hex) of the prepared files and the split."""
        self._check(split)
        open_split(self._stored.builder, self.name, split)
        content = repr((self._stored.fingerprint(), split))
        return hashlib.sha256(content.encode()).hexdigest()

    def _check(self, split: str) -> None:
        if self.known is not None:
            check_split_names(self.name, split, self.known.counts)
