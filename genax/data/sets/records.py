"""Records of image sets, read by number."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from PIL import Image

from genax.core.errors import GenaxError
from genax.data.sets.cache import fingerprint_folder
from genax.data.sets.catalogue import known_set
from genax.data.sets.embedded import load_digits
from genax.data.sets.split_slices import check_split_names, memory_parts
from genax.data.sets.tfds_sets import (
    PREFIX,
    Source,
    damaged,
    folder_of,
    known_builder,
    open_split,
    tfds_builder,
)

_MEMORY = 1 << 30


class Records(Protocol):
    """A split of an image set: "image" uint8 [h, w, c] and, if there are any, "label" int32."""

    @property
    def threads(self) -> int:
        """Threads that are worth reading with."""
        ...

    def __len__(self) -> int: ...

    def read(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """ids: int64 [b]. Returns arrays [b, ...]."""
        ...

    def fingerprint(self) -> str:
        """Changes with the records."""
        ...


@dataclass(frozen=True)
class MemoryRecords:
    """Records held as stacked arrays: a batch is one indexing."""

    arrays: dict[str, np.ndarray]
    threads = 1

    def __len__(self) -> int:
        return len(self.arrays["image"])

    def read(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """ids: int64 [b]. Returns arrays [b, ...]."""
        return {name: array[ids] for name, array in self.arrays.items()}

    def fingerprint(self) -> str:
        """SHA-256 (hex) of all arrays."""
        digest = hashlib.sha256()
        for name, array in sorted(self.arrays.items()):
            digest.update(repr((name, array.dtype.str, array.shape)).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image set before it is opened. shape: (h, w, c), None if it varies.

    num_classes: None if there are no labels or they are plain numbers. image, label: names of the
    features; label is None for a set without labels. features: all of them, with their kinds.
    """

    shape: tuple[int | None, int | None, int]
    num_classes: int | None
    image: str = "image"
    label: str | None = "label"
    features: str = ""


@dataclass(frozen=True)
class TfdsRecords:
    """Records of a TFDS set; sets under 1 GiB of pixels are read into memory at the first batch."""

    name: str
    builder: Any
    source: Source
    facts: ImageFacts
    size: int | None

    @property
    def threads(self) -> int:
        """One if records are in memory; eight hide the latency of a disk and of decoding."""
        return 1 if self._fits_memory else 8

    def __len__(self) -> int:
        return len(self.source)

    def read(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """ids: int64 [b]. Returns arrays [b, ...]."""
        return self._memory.read(ids) if self._fits_memory else self._decode(ids.tolist())

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the prepared files, see `fingerprint_folder`."""
        return fingerprint_folder(folder_of(self.builder))

    @property
    def _fits_memory(self) -> bool:
        height, width, channels = self.facts.shape
        height, width = self.size or height or 1 << 20, self.size or width or 1 << 20
        return len(self) * height * width * channels < _MEMORY

    @cached_property
    def _memory(self) -> MemoryRecords:
        starts = range(0, len(self), 1000)
        chunks = [self._decode(range(s, min(s + 1000, len(self)))) for s in starts]
        return MemoryRecords(
            {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
        )

    def _decode(self, numbers: Sequence[int]) -> dict[str, np.ndarray]:
        try:
            examples = self.source.__getitems__(list(numbers))
        except Exception as error:  # the reader and the parser raise kinds of their own
            raise damaged(self.builder, self.name, error) from error
        images = [example[self.facts.image] for example in examples]
        if self.size is not None:
            images = [resize(image, self.size) for image in images]
        batch = {"image": np.stack(images)}
        if self.facts.label is not None:
            labels = np.asarray([example[self.facts.label] for example in examples])
            batch["label"] = labels.astype(np.int32)
            wrong = labels[batch["label"] != labels]
            if len(wrong):
                raise GenaxError(
                    f"{self.name} has the {self.facts.label} {wrong[0]}, which exceeds 32 bits; "
                    "choose another set."
                )
        return batch


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """The centre square of uint8 [h, w, c], resized (bicubic) to [size, size, c]."""
    height, width, channels = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    planes = [
        np.asarray(Image.fromarray(square[..., c]).resize((size, size), Image.Resampling.BICUBIC))
        for c in range(channels)
    ]
    return np.stack(planes, axis=-1)


def image_facts(name: str) -> ImageFacts:
    """Shape, classes and features of an image set; reads no data.

    Raises GenaxError for an unknown name or a set without images.
    """
    if name.startswith(PREFIX):
        return _tfds_facts(name, tfds_builder(name).info.features)
    known = known_set(name)
    if known.shape is None:
        use = "texts; use TextData" if known.kind == "text" else "examples; use load_examples"
        raise GenaxError(f"{name} is a set of {use}.")
    label = None if known.num_classes is None else "label"
    return ImageFacts(known.shape, known.num_classes, label=label)


def _tfds_facts(name: str, features: Any) -> ImageFacts:
    for key, feature in features.items():
        shape: tuple[Any, ...] = getattr(feature, "shape", ())
        if len(shape) == 3 and shape[2] and getattr(feature, "np_dtype", None) == np.uint8:
            label = _label(features)
            classes = getattr(features[label], "num_classes", None) if label else None
            kinds = ", ".join(
                f"{name} ({_kind(other)})" for name, other in sorted(features.items())
            )
            return ImageFacts((shape[0], shape[1], shape[2]), classes, key, label, kinds)
    raise GenaxError(f"{name} has no feature that is a uint8 image; it has {', '.join(features)}.")


def _kind(feature: Any) -> str:
    name = type(feature).__name__
    return np.dtype(feature.np_dtype).name if name == "Scalar" else name


def _label(features: Any) -> str | None:
    """The feature "label" if it is a class or a whole number, or else the only class there is."""
    from tensorflow_datasets.core.features import ClassLabel, Tensor

    found = dict(features.items())
    label = found.get("label")
    if isinstance(label, Tensor) and label.shape == () and np.dtype(label.np_dtype).kind in "iub":
        return "label"
    classes = [key for key, feature in found.items() if isinstance(feature, ClassLabel)]
    return classes[0] if len(classes) == 1 else None


def open_images(name: str, split: str, size: int | None) -> Records:
    """A split of an image set, or a slice of one, its images resized to size x size if given.

    Raises GenaxError for an unknown name, split or slice, or a set that is not prepared.
    """
    facts = image_facts(name)
    if name.startswith(PREFIX):
        builder = tfds_builder(name)
        return TfdsRecords(name, builder, open_split(builder, name, split), facts, size)
    known = known_set(name)
    check_split_names(name, split, known.counts)
    if known.packages:
        builder = known_builder(known)
        return TfdsRecords(name, builder, open_split(builder, name, split), facts, size)
    chunks = [
        {key: array[part.start : part.stop] for key, array in load_digits(part.split).items()}
        for part in memory_parts(name, split, known.counts)
    ]
    arrays = {key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]}
    if size is not None:
        arrays["image"] = np.stack([resize(image, size) for image in arrays["image"]])
    return MemoryRecords(arrays)
