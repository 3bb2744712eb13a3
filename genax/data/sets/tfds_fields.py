"""Features of TensorFlow Datasets as fields, and its records as examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from genax.data.fields import (
    Field,
    Image,
    Label,
    Number,
    Other,
    Real,
    Text,
    list_of,
)


def fields_of(features: Mapping[str, Any]) -> dict[str, Field]:
    """Return the field of each feature; features within features are named "outer/inner"."""
    return dict(_fields(features))


def _fields(features: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Field]]:
    for name, feature in features.items():
        inner = getattr(feature, "feature", feature)
        if hasattr(inner, "items"):
            fields = _fields(inner, f"{prefix}{name}/")
            yield from (
                fields if inner is feature else ((key, list_of(f, "Sequence")) for key, f in fields)
            )
        else:
            yield prefix + name, _field(feature)


def _field(feature: Any) -> Field:
    name = type(feature).__name__
    shape, dtype = getattr(feature, "shape", None), getattr(feature, "np_dtype", None)
    if name == "Sequence":
        return list_of(_field(feature.feature), "Sequence")
    if not isinstance(shape, tuple) or dtype is None:
        return Other(name)
    if len(shape) == 3 and shape[2] and dtype == np.uint8:
        return Image(*shape)
    # TFDS stores one text as an object, genax as an array of bytes.
    if (shape == () and dtype == np.object_) or (shape == (None,) and dtype == np.uint8):
        return Text()
    kind = np.dtype(dtype).kind
    if shape != () or kind not in "iubf":
        return Other(name)
    if name == "ClassLabel":
        return Label(feature.num_classes)
    return Real() if kind == "f" else Number()


def example_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with texts as str and lists as tuples, by the names of `fields_of`."""
    return dict(_values(record))


def _values(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _values(value, f"{prefix}{key}/")
        else:
            yield prefix + key, _plain(value)


def _plain(value: Any) -> Any:
    """Return text as str (TFDS gives bytes, and genax's sets arrays of bytes), lists as tuples."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            return _plain(value.item())
        if value.ndim == 1 and value.dtype == np.uint8:
            return value.tobytes().decode("utf-8", errors="replace")
        # Arrays of numbers that are no list stay what they are.
        return value if value.ndim > 1 else tuple(_plain(part) for part in value)
    return tuple(_plain(part) for part in value) if isinstance(value, list | tuple) else value
