"""What examples hold, checked before anything is made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from genax.core.errors import GenaxError

TEXT, TEXTS = "a text", "a list of texts"
WHOLE, WHOLES = "a whole number", "a list of whole numbers"
CLASS = "a class as a whole number (real numbers are for a regression)"
REAL = "a finite number"

_LARGEST = 2**31 - 1


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _list_of(kind: type) -> Callable[[Any], bool]:
    def found(value: Any) -> bool:
        return isinstance(value, tuple | list) and all(isinstance(part, kind) for part in value)

    return found


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    TEXT: lambda value: isinstance(value, str),
    TEXTS: _list_of(str),
    WHOLE: lambda value: isinstance(value, int),
    CLASS: lambda value: isinstance(value, int),
    WHOLES: _list_of(int),
    REAL: _is_real,
}


def check_features(
    examples: Iterable[Mapping[str, Any]], kinds: Mapping[str, str], source: str
) -> None:
    """Raise GenaxError for a feature that an example lacks, or that is of another kind.

    kinds: TEXT, WHOLES, ..., by the feature's name. source: what the error names.
    """
    for example in examples:
        for name, kind in kinds.items():
            if name not in example:
                raise GenaxError(
                    f"{source} has no feature {name!r}; choose one of {', '.join(sorted(example))}."
                )
            if not _KINDS[kind](example[name]):
                raise GenaxError(
                    f"{source} has the feature {name!r} with the value {_short(example[name])}, "
                    f"and {kind} is needed; choose another feature or another set."
                )


def check_labels(
    labels: Collection[int], classes: int | None, source: str, name: str = "label"
) -> None:
    """Raise GenaxError for a label that is no class. classes: how many; None is any number.

    source, name: what the error names.
    """
    if labels and min(labels) < 0:
        raise GenaxError(
            f"{source} has the {name} {min(labels)}, which is no class; the labels of some test "
            "splits are withheld in this way, so choose another split."
        )
    most = _LARGEST if classes is None else classes - 1
    if labels and max(labels) > most:
        raise GenaxError(
            f"{source} has the {name} {max(labels)}, which is no class of 0 to {most}; choose more "
            "classes, or another set."
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
