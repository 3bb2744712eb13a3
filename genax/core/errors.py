"""The error that a user can act on."""

from __future__ import annotations

from typing import Any


class GenaxError(Exception):
    """What was wrong, where, and what to do, in one sentence; the command line prints just that."""


def reason(error: BaseException) -> str:
    """One line of what another library raised."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def check_kind(what: str, value: Any, kind: type, example: str) -> None:
    """Raise GenaxError if a value is of another kind than the example."""
    if not isinstance(value, kind):
        raise GenaxError(f"{what} is a {type(value).__name__}; it is {example}.")


def check_tuple(what: str, names: Any) -> None:
    """Raise GenaxError for a string in place of a tuple of strings."""
    if isinstance(names, str):
        raise GenaxError(f"{what} is a tuple of names, not a string; write ({names!r},).")
