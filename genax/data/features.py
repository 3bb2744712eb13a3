"""What examples hold, checked before anything is made of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from genax.core.errors import GenaxError
from genax.data.fields import Field

_LARGEST = 2**31 - 1


def check_features(
    examples: Iterable[Mapping[str, Any]], fields: Mapping[str, Field], source: str
) -> None:
    """Raise GenaxError for a feature that an example lacks, or that is of another kind.

    fields: what is needed, by the feature's name.
    source: what the error names.
    """
    for example in examples:
        for name, field in fields.items():
            if name not in example:
                names = ", ".join(sorted(example))
                raise GenaxError(
                    f"{source} has no feature {name!r}; choose one of {names} by the setting that "
                    "names it, such as config.text."
                )
            if not field.fits(example[name]):
                raise GenaxError(
                    f"{source} has the feature {name!r} with the value {_short(example[name])}, "
                    f"and {field.what} is needed; choose another feature or another set."
                )


def check_labels(
    labels: Collection[int], classes: int | None, source: str, name: str = "label"
) -> None:
    """Raise GenaxError for a label that is no class.

    classes: how many there are; None is any number.
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
            "classes (config.num_labels or config.num_classes), or another set."
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
