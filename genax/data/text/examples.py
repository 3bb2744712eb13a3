"""Sets whose examples are neither images nor documents, as plain dicts held in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genax.core.errors import GenaxError
from genax.data.fields import Image, Other
from genax.data.sets.catalogue import used_by
from genax.data.sets.named import NamedSet, open_set
from genax.data.text.text_formats import CONLL_LABELS

__all__ = ["CONLL_LABELS", "fingerprint_examples", "load_examples"]


def load_examples(
    name: str, split: str, damaged: str = "refuse", classes: Sequence[str] = ()
) -> Sequence[Mapping[str, Any]]:
    """Return all examples of a split, or of a slice such as "train[:1000]", in the set's order.

    name: of a set whose fields `genax data list` shows, "tfds:NAME", or a user's own files. The
      latter two give what the set has, its text as str, its lists as tuples, with features within
      features named "outer/inner".
    damaged, classes: see `open_set`.
    Raises GenaxError for an unknown name or split, a set of images or documents, or a set that is
    not prepared.
    """
    return example_set(name, damaged, classes).examples(split)


def fingerprint_examples(
    name: str, split: str, damaged: str = "refuse", classes: Sequence[str] = ()
) -> str:
    """SHA-256 (hex) that changes with the examples. Raises GenaxError as `load_examples` does."""
    return example_set(name, damaged, classes).fingerprint(split)


def example_set(name: str, damaged: str = "refuse", classes: Sequence[str] = ()) -> NamedSet:
    """Return the set of a name. Raises GenaxError for one of images or documents."""
    found = open_set(name, damaged, classes)
    if found.catalogued and not used_by(found.fields).startswith("examples"):
        raise GenaxError(f"{name} is a set of {used_by(found.fields)}.")
    for key, field in found.fields.items() if not found.catalogued else ():
        if isinstance(field, Image) or field in (Other("Image"), Other("Video")):
            raise GenaxError(f"{name} is a set of images ({key!r}); use ImageData.")
    return found
