"""Sets whose examples are neither images nor documents, as plain dicts held in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genax.core.errors import GenaxError
from genax.data.fields import Image, Other
from genax.data.sets.catalogue import used_by
from genax.data.sets.records import fingerprint_records, load_records, set_fields
from genax.data.sets.tfds_sets import PREFIX
from genax.data.text.text_formats import CONLL_LABELS

__all__ = ["CONLL_LABELS", "fingerprint_examples", "load_examples"]


def load_examples(name: str, split: str) -> Sequence[Mapping[str, Any]]:
    """Return all examples of a split, or of a slice such as "train[:1000]", in the set's order.

    name: of a set whose fields `genax data list` shows, or "tfds:NAME". The latter gives what the
      prepared set has, its text as str, its lists as tuples, with features within features named
      "outer/inner".
    Raises GenaxError for an unknown name or split, a set of images or documents, or a set that is
    not prepared.
    """
    _check(name)
    return load_records(name, split)


def fingerprint_examples(name: str, split: str) -> str:
    """SHA-256 (hex) that changes with the examples. Raises GenaxError as `load_examples` does."""
    _check(name)
    return fingerprint_records(name, split)


def _check(name: str) -> None:
    fields = set_fields(name)
    if name.startswith(PREFIX):
        for key, field in fields.items():
            if isinstance(field, Image) or field in (Other("Image"), Other("Video")):
                raise GenaxError(f"{name} is a set of images ({key!r}); use ImageData.")
    elif not used_by(fields).startswith("examples"):
        raise GenaxError(f"{name} is a set of {used_by(fields)}.")
