"""Values that a setting may have, declared beside the settings and checked before any building."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from genax.core.errors import GenaxError

# The largest number that arrays and counters hold.
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Range:
    """The numbers between two ends.

    A tuple lies in a range if all of its numbers do.

    least, most: ends that belong to the range.
    above, below: ends that do not.
    whole: whether only whole numbers lie in it.
    empty: whether a tuple without numbers lies in it too.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    whole: bool = False
    empty: bool = False

    def __contains__(self, value: Any) -> bool:
        if isinstance(value, tuple | list):
            return all(number in self for number in value) and (self.empty or len(value) > 0)
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        number: Any = value
        return (
            (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        ends = {
            "at least": self.least,
            "above": self.above,
            "at most": self.most,
            "below": self.below,
        }
        return " and ".join(f"{side} {end}" for side, end in ends.items() if end is not None)


COUNT = Range(least=1, most=_LARGEST, whole=True)
# A number of things; 0 is none, never or all, as the setting says.
AMOUNT = Range(least=0, most=_LARGEST, whole=True)
POSITIVE = Range(above=0)
NOT_NEGATIVE = Range(least=0)
# A share that is never the whole: dropout, the decay of an average.
SHARE = Range(least=0, below=1)

# By setting, with dots: a range of numbers, or the words that it chooses from.
Ranges = Mapping[str, Range | tuple[str, ...]]


def check_ranges(settings: Mapping[str, Any], ranges: Ranges) -> None:
    """Raise GenaxError if a setting has a value that it may not have.

    settings: values by dotted name, as `genax.settings.flat.flat` gives them.
    ranges: may name settings that are not there.
    """
    for name in ranges.keys() & settings.keys():
        value, allowed = settings[name], ranges[name]
        if value in allowed:
            continue
        if isinstance(allowed, tuple):
            raise GenaxError(f"config.{name}={value!r} is none of {', '.join(allowed)}.")
        if isinstance(value, tuple | list) and not value:
            raise GenaxError(f"config.{name} is empty; it needs numbers {allowed}.")
        raise GenaxError(f"config.{name}={value} must be {allowed}.")


def check_values(owner: str, values: Mapping[str, Any], ranges: Mapping[str, Range]) -> None:
    """Raise GenaxError if a value lies outside its range; None passes.

    owner: what the error names before the value.
    """
    for name, value in values.items():
        allowed = ranges[name]
        if value is not None and value not in allowed:
            whole = "a whole number " if allowed.whole else ""
            raise GenaxError(f"{owner}: {name}={value!r} must be {whole}{allowed}.")


def check_fields(description: Any, **ranges: Range) -> None:
    """Raise GenaxError if a field of a frozen description lies outside its range; None passes."""
    owner = type(description).__name__
    if hasattr(description, "name"):
        owner += f" of {description.name}"
    check_values(owner, {name: getattr(description, name) for name in ranges}, ranges)
