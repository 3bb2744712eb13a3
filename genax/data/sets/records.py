"""Records of a data set, read by number: images, texts and numbers alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from PIL import Image as Picture

from genax.core.errors import GenaxError
from genax.data.fields import Field, Image
from genax.data.sets.cache import fingerprint_folder
from genax.data.sets.catalogue import Example, KnownSet
from genax.data.sets.tfds_fields import example_of
from genax.data.sets.tfds_sets import Source, damaged, folder_of

_MEMORY = 1 << 30


class Records(Protocol):
    """A split of a set: arrays [n, ...] by field; those of texts and lists hold objects."""

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
        return len(next(iter(self.arrays.values())))

    def read(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """ids: int64 [b]. Returns arrays [b, ...]."""
        return {name: array[ids] for name, array in self.arrays.items()}

    def fingerprint(self) -> str:
        """SHA-256 (hex) of all arrays."""
        digest = hashlib.sha256()
        for name, array in sorted(self.arrays.items()):
            digest.update(repr((name, array.dtype.str, array.shape)).encode())
            if array.dtype.hasobject:
                digest.update(json.dumps(array.tolist(), allow_nan=False).encode())
            else:
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Stored:
    """A prepared set: one of genax's own if `known` is there, or any other of TFDS."""

    builder: Any
    known: KnownSet | None

    def example(self, record: Mapping[str, Any]) -> Example:
        """Return the example that a record holds."""
        if self.known is None:
            return example_of(record)
        return {name: field.restored(record[name]) for name, field in self.known.fields.items()}

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the prepared files, see `fingerprint_folder`."""
        return fingerprint_folder(folder_of(self.builder))


@dataclass(frozen=True)
class StoredRecords:
    """Records of a prepared set; those under 1 GiB are read into memory at the first batch."""

    name: str
    stored: Stored
    source: Source
    fields: Mapping[str, Field]
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
        return self.stored.fingerprint()

    @property
    def _fits_memory(self) -> bool:
        images = [field for field in self.fields.values() if isinstance(field, Image)]
        if not images:
            return self.stored.builder.info.dataset_size < _MEMORY
        return len(self) * bytes_of(images, self.size) < _MEMORY

    @cached_property
    def _memory(self) -> MemoryRecords:
        starts = range(0, len(self), 1000)
        chunks = [self._decode(range(s, min(s + 1000, len(self)))) for s in starts]
        return MemoryRecords(
            {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
        )

    def _decode(self, numbers: Sequence[int]) -> dict[str, np.ndarray]:
        try:
            records = self.source.__getitems__(list(numbers))
        except Exception as error:  # the reader and the parser raise kinds of their own
            raise damaged(self.stored.builder, self.name, error) from error
        examples = [self.stored.example(record) for record in records]
        return columns_of(self.name, examples, self.fields, self.size)


def columns_of(
    name: str, examples: Sequence[Example], fields: Mapping[str, Field], size: int | None
) -> dict[str, np.ndarray]:
    """Return each field of the examples as one array [n, ...]."""
    columns = {}
    for key, field in fields.items():
        values = [example[key] for example in examples]
        if size is not None and isinstance(field, Image):
            values = [resize(image, size) for image in values]
        try:
            columns[key] = field.column(values)
        except OverflowError as error:
            largest = max(values, key=abs)
            raise GenaxError(
                f"{name} has the {key} {largest}, which exceeds 32 bits; choose another set."
            ) from error
    return columns


def bytes_of(images: Iterable[Image], size: int | None) -> int:
    """Return the bytes of an example's pictures in memory; a side that varies is taken for 2^20."""
    return sum(
        (size or image.height or 1 << 20) * (size or image.width or 1 << 20) * image.channels
        for image in images
    )


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Return the centre square of uint8 [h, w, c], resized (bicubic) to [size, size, c]."""
    height, width, channels = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    planes = [
        np.asarray(
            Picture.fromarray(square[..., c]).resize((size, size), Picture.Resampling.BICUBIC)
        )
        for c in range(channels)
    ]
    return np.stack(planes, axis=-1)
