"""Latents that another program made, in files of arrays."""

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
from genax.data.features import check_labels
from genax.data.own.forms import form_of
from genax.data.pipeline import Batch
from genax.data.sets.own_sets import OwnSet

# The arrays of a file.
LATENT, LABEL = "latent", "label"


@dataclass(frozen=True)
class LatentFiles:
    """Latents in the place of images: "image" float32 [size, size, channels], "label" int32.

    name: "npz:PATH", with arrays "latent" [n, size, size, channels] of real numbers, scaled as the
      denoiser is to see them, and "label" [n] if there are classes.
    split: a split, or a slice of one, as of `ImageData`.
    classes: number of classes. None means no labels.
    """

    name: str
    size: int
    channels: int
    split: str = "train"
    classes: int | None = None

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of one example; reads no data."""
        shape = (self.size, self.size, self.channels)
        found = {"image": jax.ShapeDtypeStruct(shape, np.float32)}
        if self.classes is not None:
            found[LABEL] = jax.ShapeDtypeStruct((), np.int32)
        return found

    @property
    def says(self) -> Sequence[str]:
        """What a run tells its user of the files."""
        return self._set.says

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the rows and all settings that change an example."""
        text = repr((self._set.digest(self._rows), self.size, self.channels, self.classes))
        return hashlib.sha256(text.encode()).hexdigest()

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless shuffled batches."""
        return pipeline.train_batches(self._read, len(self._rows), batch_size, seed, shard)

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Mapping[str, np.ndarray]]:
        """Every example once, in order, with "mask"."""
        return pipeline.evaluation_batches(self._read, len(self._rows), batch_size, shard)

    @cached_property
    def _set(self) -> OwnSet:
        if form_of(self.name) != "npz":
            raise GenaxError(
                f"{self.name} names no latents: they are read from npz:PATH, a file with arrays "
                f"{LATENT!r} [n, {self.size}, {self.size}, {self.channels}] and {LABEL!r} [n]."
            )
        return OwnSet(self.name, classes=(LABEL,))

    @cached_property
    def _rows(self) -> np.ndarray:
        columns = self._set.table.columns
        wanted = [LATENT, *([] if self.classes is None else [LABEL])]
        missing = [name for name in wanted if name not in columns]
        if missing:
            raise GenaxError(
                f"{self.name} has no array {missing[0]!r}; it has {', '.join(columns)}: save the "
                "latents under that name."
            )
        shape = np.shape(columns[LATENT].take(np.zeros(1, np.int64))[0])
        if shape != self.element["image"].shape:
            raise GenaxError(
                f"latents of {self.name} have the shape {shape}, but the settings make it "
                f"{self.element['image'].shape}; change size and channels."
            )
        return self._set.rows(self.split)

    def _read(self, ids: np.ndarray) -> Batch:
        columns, rows = self._set.table.columns, self._rows[ids]
        batch = {"image": np.stack(columns[LATENT].take(rows)).astype(np.float32)}
        if self.classes is not None:
            labels = columns[LABEL].take(rows)
            check_labels(labels, self.classes, f"split {self.split!r} of {self.name}")
            batch[LABEL] = np.array(labels, np.int32)
        return batch
