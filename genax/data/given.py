"""Data that a caller gives to an experiment in place of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from genax.core.data import Data
from genax.core.errors import GenaxError


def given_or(data: Any, make: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    """Return the training and the evaluation data: what is given, or else what `make` makes.

    data: None, an object of the protocol `Data` that serves both, or a pair of such objects.
    Raises GenaxError for anything else.
    """
    if data is None:
        return make()
    pair = tuple(data) if isinstance(data, tuple | list) else (data, data)
    for one in pair:
        if not isinstance(one, Data):
            raise GenaxError(
                f"build got the data {one!r:.200}, which is no Data; give an object with element, "
                "fingerprint, train and evaluate (docs/data.md), or a pair of them for training "
                "and evaluation."
            )
    if len(pair) != 2:
        raise GenaxError(f"build got {len(pair)} data; give one, or a training and evaluation.")
    return pair
