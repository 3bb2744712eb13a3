"""Image sets as training data: one frozen description, from record numbers to float32 batches."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np

from genax.core.data import BatchIterator, Shard
from genax.core.errors import GenaxError
from genax.data import pipeline, shuffling
from genax.data.code_fingerprint import fingerprint_value
from genax.data.features import check_labels
from genax.data.fields import Field, Image, Label, Text, image_of, label_of, listed
from genax.data.pipeline import Batch
from genax.data.selection import Selection
from genax.data.sets.catalogue import used_by
from genax.data.sets.named import NamedSet, identity, open_set
from genax.data.sets.records import Records
from genax.settings.ranges import AMOUNT, COUNT, check_fields

Example = dict[str, np.ndarray]

# How many labels are checked before the first step if memory does not hold the set.
_PROBED = 64


@dataclass(frozen=True)
class ImageData:
    """Images with their labels: "image" float32 [h, w, c] in `range`, "label" int32 if any.

    name: a set of `genax data list`, "tfds:NAME" for a prepared set of TensorFlow Datasets, or
      files of one's own, such as "folder:PATH" (docs/data.md).
    split: "train", or another of the set's, or a slice such as "train[:1000]" or "train[10%:]".
    size: images are resized to size x size (bicubic, after a centre crop to a square).
    pad: pixels of black that are added on every side, after resizing.
    flip: whether half of the training images are mirrored.
    range: what black and white become.
    limit: only the first `limit` records are used.
    transform: (example, rng) -> example, for training. rng belongs to this example of this epoch,
      whatever the number of processes. It must keep shapes and dtypes; see `fingerprint_value` for
      what it may hold.
    classes: how many classes the reader of the labels has; a label beyond them is refused. None is
      any number of classes, or no labels.
    caption: the set's text that belongs to an image; batches then hold it as "caption", an array of
      str, which stays on the host.
    image: which of the set's pictures is the image; None is the first.
    source: the picture that the image is made of, in a set of pairs; batches then hold it as
      "source". Whatever changes an image changes its source alike.
    factors: the set's classes that made an image, such as those of dsprites; batches then hold them
      as "factors" int32 [factors].
    select: which records are read, by their labels; None is all.
    damaged: what is done with a file of one's own that cannot be read: "refuse", or "skip" to leave
      it out and count it.
    """

    name: str
    split: str = "train"
    size: int | None = None
    pad: int = 0
    flip: bool = False
    range: tuple[float, float] = (-1.0, 1.0)
    limit: int | None = None
    transform: Callable[[Example, np.random.Generator], Example] | None = None
    classes: int | None = None
    caption: str | None = None
    image: str | None = None
    source: str | None = None
    factors: tuple[str, ...] = ()
    select: Selection | None = None
    damaged: str = "refuse"

    def __post_init__(self):
        check_fields(self, size=COUNT, pad=AMOUNT, limit=COUNT)
        black, white = self.range
        if not (math.isfinite(black) and math.isfinite(white) and black != white):
            raise GenaxError(
                f"ImageData of {self.name}: range={self.range} must be two different finite "
                "numbers."
            )

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of one example's arrays of numbers; reads no data."""
        element = {}
        for name in self._pictures:
            picture = self._fields[self._names[name]]
            assert isinstance(picture, Image)
            height, width, channels = picture.height, picture.width, picture.channels
            if self.size is not None:
                height = width = self.size
            elif height is None or width is None:
                raise GenaxError(
                    f"images of {self.name} differ in size: choose one with size=, in an "
                    "experiment config.size."
                )
            shape = (height + 2 * self.pad, width + 2 * self.pad, channels)
            element[name] = jax.ShapeDtypeStruct(shape, np.float32)
        if "label" in self._names:
            element["label"] = jax.ShapeDtypeStruct((), np.int32)
        if self.factors:
            element["factors"] = jax.ShapeDtypeStruct((len(self._factors),), np.int32)
        return element

    @property
    def num_classes(self) -> int | None:
        """Labels are in [0, num_classes); None for a set without labels, or of plain numbers."""
        label = self._fields.get(self._names.get("label", ""))
        return label.classes if isinstance(label, Label) else None

    @property
    def says(self) -> Sequence[str]:
        """What a run tells its user of the set."""
        return self._set.says

    @property
    def is_augmented(self) -> bool:
        """Whether training changes images at random."""
        return self.flip or self.transform is not None

    @cached_property
    def num_examples(self) -> int:
        """The number of records in use; opens the data set."""
        records = len(self._records)
        return records if self.limit is None else min(self.limit, records)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the records and all settings that change an example.

        Raises GenaxError for labels that are none of the classes. Those of a set in memory are all
        checked; of a larger set some are checked here and the others as they are read.
        """
        if self.classes is not None:
            self._check_labels(self.classes)
        name = identity(self.name)
        how = (name, self.split, self.size, self.pad, self.flip, tuple(self.range), self.limit)
        transform = "None" if self.transform is None else fingerprint_value(self.transform)
        parts: list[str | None] = [self.caption] if self.caption is not None else []
        parts += [self.image, self.source] if self.image or self.source else []
        parts += [repr(one) for one in (self.factors, self.select) if one]
        text = repr((self._records.fingerprint(), self.num_examples, how, transform, *parts))
        return hashlib.sha256(text.encode()).hexdigest()

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless batches "image" [b, h, w, c], "label" [b], "id" [b] of this process."""

        def change(batch: Batch, positions: np.ndarray) -> Batch:
            if self.flip:
                mirrored = shuffling.coin_flips(positions, seed)[:, None, None, None]
                for name in self._pictures:
                    batch[name] = np.where(mirrored, batch[name][:, :, ::-1], batch[name])
            if self.transform is not None:
                batch = self._transformed(batch, positions, seed)
            return batch

        return pipeline.train_batches(
            self._read, self.num_examples, batch_size, seed, shard, change, self._records.threads
        )

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Mapping[str, np.ndarray]]:
        """Every image of the split once, in order and unflipped, with "mask" float32 [b]."""
        return pipeline.evaluation_batches(
            self._read, self.num_examples, batch_size, shard, self._records.threads
        )

    @cached_property
    def _fields(self) -> Mapping[str, Field]:
        """What an example of the set holds."""
        return self._set.fields

    @cached_property
    def _set(self) -> NamedSet:
        return open_set(self.name, self.damaged, classes=("label",))

    @cached_property
    def _names(self) -> Mapping[str, str]:
        """The set's name of what a batch has."""
        fields = self._fields
        image, label = self.image or image_of(fields), label_of(fields)
        if image is None and self._set.catalogued:
            raise GenaxError(f"{self.name} is a set of {used_by(fields)}.")
        if image is None:
            raise GenaxError(
                f"{self.name} has no feature that is a uint8 image; it has {listed(fields)}; "
                "choose a set of images."
            )
        for name in (image, self.source):
            if name is not None and not isinstance(fields.get(name), Image):
                raise GenaxError(
                    f"{self.name} has no picture {name!r}; it has {listed(fields)}; choose another "
                    "picture, or a set that has it."
                )
        if self.classes is not None and label is None:
            raise GenaxError(
                f"{self.name} has no 'label' that is a class or a whole number, nor a single class "
                f"of another name; it has {listed(fields)}; choose a labelled set."
            )
        if self.caption is not None and not isinstance(fields.get(self.caption), Text):
            raise GenaxError(
                f"{self.name} has no text {self.caption!r}; it has {listed(fields)}; choose "
                "another text, or a set with captions."
            )
        chosen = {"image": image, "source": self.source, "label": label, "caption": self.caption}
        return {name: key for name, key in chosen.items() if key is not None}

    @property
    def _pictures(self) -> Sequence[str]:
        """The names of a batch's pictures."""
        return ("image",) if self.source is None else ("image", "source")

    @property
    def _factors(self) -> Sequence[str]:
        """The set's names of the factors."""
        for name in self.factors:
            if not isinstance(self._fields.get(name), Label):
                raise GenaxError(
                    f"{self.name} has no factor {name!r} that is a class; it has "
                    f"{listed(self._fields)}; choose a set that has it, such as dsprites."
                )
        return self.factors

    @cached_property
    def _records(self) -> Records:
        names = {*self._names.values(), *self._factors}
        fields = {key: self._fields[key] for key in self._fields if key in names}
        records = self._set.records(self.split, fields, self.size)
        if self.select is None:
            return records
        label = self._names.get("label")
        if label is None:
            raise GenaxError(f"{self.name} has no 'label' to select records by; leave select out.")
        return self.select.records(records, label, f"split {self.split!r} of {self.name}")

    def _check_labels(self, classes: int) -> None:
        if self.num_classes is not None:
            self._check([self.num_classes - 1], classes)
        records, size = self._records, self.num_examples
        probed = size if records.threads == 1 else min(size, _PROBED)
        for start in range(0, probed, 1000):
            places = np.arange(start, min(start + 1000, probed), dtype=np.int64)
            found = records.read(places * size // probed)[self._names["label"]]
            self._check(found.tolist(), classes)

    def _check(self, labels: list[int], classes: int) -> None:
        check_labels(labels, classes, f"split {self.split!r} of {self.name}")

    def _read(self, ids: np.ndarray) -> Batch:
        found = self._records.read(ids)
        batch = {name: found[key] for name, key in self._names.items()}
        if self.factors:
            batch["factors"] = np.stack([found[key] for key in self.factors], axis=-1)
        if self.classes is not None:
            self._check(batch["label"].tolist(), self.classes)
        return {**batch, **{name: self._scaled(batch[name]) for name in self._pictures}}

    def _scaled(self, pixels: np.ndarray) -> np.ndarray:
        black, white = self.range
        if self.pad:
            pixels = np.pad(pixels, ((0, 0), (self.pad,) * 2, (self.pad,) * 2, (0, 0)))
        scale = np.float32((white - black) / 255)
        return pixels.astype(np.float32) * scale + np.float32(black)

    def _transformed(self, batch: Batch, positions: np.ndarray, seed: int) -> Batch:
        assert self.transform is not None
        examples = []
        for number, position in enumerate(positions):
            example = {name: array[number] for name, array in batch.items()}
            examples.append(self.transform(example, shuffling.generator(int(position), seed)))
        changed = {}
        for name, array in batch.items():
            values = [example[name] for example in examples]
            changed[name] = Text().column(values) if array.dtype.hasobject else np.stack(values)
        for name, array in changed.items():
            if array.shape != batch[name].shape or array.dtype != batch[name].dtype:
                raise GenaxError(
                    f"the transform of {self.name} made {name!r} {array.dtype}{array.shape[1:]}; "
                    f"it must stay {batch[name].dtype}{batch[name].shape[1:]}."
                )
        return changed
