"""Sets whose examples are neither images nor documents, as plain dicts held in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from genax.core.errors import GenaxError
from genax.data.sets.cache import fingerprint_folder
from genax.data.sets.catalogue import KNOWN, known_set
from genax.data.sets.split_slices import check_split_names, take_split
from genax.data.sets.tfds_sets import (
    PREFIX,
    folder_of,
    known_builder,
    open_split,
    read_split,
    tfds_builder,
)
from genax.data.text.functions import stdlib_examples
from genax.data.text.text_formats import CONLL_LABELS, restored

__all__ = ["CONLL_LABELS", "EXAMPLE_FIELDS", "fingerprint_examples", "load_examples"]

# What an example of each set has, and of which type; a tuple holds text or numbers.
EXAMPLE_FIELDS: Mapping[str, Mapping[str, type]] = {
    name: known.fields for name, known in KNOWN.items() if known.fields
}


def load_examples(name: str, split: str) -> Sequence[Mapping[str, Any]]:
    """All examples of a split, or of a slice such as "train[:1000]", in the order of the set.

    imdb: "text", "label" (1 is good); conll2003: "words", "labels" (numbers of CONLL_LABELS);
    verses: "en", "es"; stdlib_summaries: "code", "summary", "method"; stdlib_names: "code",
    "name"; stdlib_signatures: "context", "question", "answer" and "start", the answer's first
    character in the context.
    "tfds:NAME" gives what the prepared set has, its text as str, its lists as tuples, with
    features within features named "outer/inner".
    Raises GenaxError for an unknown name or split, a set of another kind, or one not prepared.
    """
    builder = _builder(name, split)
    if builder is None:
        return take_split(name, split, stdlib_examples(name))
    records = read_split(builder, name, split)
    if name.startswith(PREFIX):
        return [dict(_flat(record)) for record in records]
    fields = known_set(name).fields
    return [restored(record, fields) for record in records]


def fingerprint_examples(name: str, split: str) -> str:
    """SHA-256 (hex) that changes with the examples. Raises GenaxError as `load_examples` does."""
    builder = _builder(name, split)
    if builder is None:
        content = json.dumps(
            take_split(name, split, stdlib_examples(name)), allow_nan=False
        ).encode()
        return hashlib.sha256(content).hexdigest()
    open_split(builder, name, split)
    content = repr((fingerprint_folder(folder_of(builder)), split)).encode()
    return hashlib.sha256(content).hexdigest()


def _builder(name: str, split: str) -> Any:
    """The builder of a stored set, None for an embedded one. Raises GenaxError for other kinds."""
    if name.startswith(PREFIX):
        builder = tfds_builder(name)
        for key, feature in builder.info.features.items():
            shape = getattr(feature, "shape", ())
            pixels = getattr(feature, "np_dtype", None) == np.uint8
            if isinstance(shape, tuple) and len(shape) > 2 and pixels:
                raise GenaxError(f"{name} is a set of images ({key!r}); use ImageData.")
        return builder
    known = known_set(name)
    if known.kind != "examples":
        use = "images; use ImageData" if known.kind == "image" else "documents; use TextData"
        raise GenaxError(f"{name} is a set of {use}.")
    check_split_names(name, split, known.counts)
    return known_builder(known) if known.packages else None


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}/")
        else:
            yield prefix + key, _plain(value)


def _plain(value: Any) -> Any:
    """Text as str (TFDS gives bytes, and genax's sets arrays of bytes), lists as tuples."""
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
