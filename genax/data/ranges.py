"""Ranges of what describes a data set."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from genax.core.errors import GenaxError


def require_at_least(data: Any, **least: int) -> None:
    """Raise GenaxError if a field is no whole number or below its least; None passes.

    data: a frozen description of a data set. least: by name of a field.
    """
    for name, lowest in least.items():
        value = getattr(data, name)
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if value is not None and (not whole or value < lowest):
            raise GenaxError(
                f"{type(data).__name__} of {data.name}: {name}={value!r} must be a whole number "
                f"of at least {lowest}."
            )
