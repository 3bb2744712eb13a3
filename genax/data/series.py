"""Sets of series as training data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np

from genax.core.data import BatchIterator, Shard
from genax.core.errors import GenaxError
from genax.data import pipeline
from genax.data.fields import Field, Label, Series, label_of, listed, series_of
from genax.data.pipeline import Batch
from genax.data.selection import Selection
from genax.data.sets.catalogue import used_by
from genax.data.sets.named import NamedSet, identity, open_set
from genax.data.sets.records import Records


@dataclass(frozen=True)
class SeriesData:
    """Series with their labels: "image" float32 [length, 1, channels], "label" int32 if any.

    A series is an image one pixel wide, as losses and networks of images read it.

    name: a set of `genax data list` that holds series, such as ecg5000.
    split: "train", or another of the set's, or a slice of one.
    select: which records are read, by their labels; None is all.
    """

    name: str
    split: str = "train"
    select: Selection | None = None

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of one example's arrays; reads no data."""
        series = self._fields[self._names["image"]]
        assert isinstance(series, Series)
        shape = (series.length, 1, series.channels)
        element = {"image": jax.ShapeDtypeStruct(shape, np.float32)}
        if "label" in self._names:
            element["label"] = jax.ShapeDtypeStruct((), np.int32)
        return element

    @property
    def num_classes(self) -> int | None:
        """Labels are in [0, num_classes); None for a set without labels."""
        label = self._fields.get(self._names.get("label", ""))
        return label.classes if isinstance(label, Label) else None

    @property
    def says(self) -> Sequence[str]:
        """What a run tells its user of the set."""
        return self._set.says

    @cached_property
    def num_examples(self) -> int:
        """The number of records in use; opens the data set."""
        return len(self._records)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the records and all settings that change an example."""
        how = (identity(self.name), self.split, self.select)
        text = repr((self._records.fingerprint(), self.num_examples, how))
        return hashlib.sha256(text.encode()).hexdigest()

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless batches "image" [b, length, 1, channels], "label" [b], "id" [b] of a process."""
        return pipeline.train_batches(self._read, self.num_examples, batch_size, seed, shard)

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Mapping[str, np.ndarray]]:
        """Every series once, in order, with "mask" float32 [b]."""
        return pipeline.evaluation_batches(self._read, self.num_examples, batch_size, shard)

    @cached_property
    def _set(self) -> NamedSet:
        return open_set(self.name, classes=("label",))

    @property
    def _fields(self) -> Mapping[str, Field]:
        return self._set.fields

    @cached_property
    def _names(self) -> Mapping[str, str]:
        """The set's name of what a batch has."""
        series, label = series_of(self._fields), label_of(self._fields)
        if series is None and self._set.catalogued:
            raise GenaxError(f"{self.name} is a set of {used_by(self._fields)}.")
        if series is None:
            raise GenaxError(
                f"{self.name} has no series; it has {listed(self._fields)}; choose a set of "
                "series, such as ecg5000."
            )
        if label is None and self.select is not None:
            raise GenaxError(f"{self.name} has no 'label' to select records by.")
        chosen = {"image": series, "label": label}
        return {name: key for name, key in chosen.items() if key is not None}

    @cached_property
    def _records(self) -> Records:
        fields = {key: self._fields[key] for key in self._names.values()}
        records = self._set.records(self.split, fields)
        if self.select is None:
            return records
        source = f"split {self.split!r} of {self.name}"
        return self.select.records(records, self._names["label"], source)

    def _read(self, ids: np.ndarray) -> Batch:
        found = self._records.read(ids)
        batch = {name: found[key] for name, key in self._names.items()}
        return {**batch, "image": batch["image"][:, :, None]}
