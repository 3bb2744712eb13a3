"""Settings given as text or values, and how those of two runs differ."""

from __future__ import annotations

import ast
import contextlib
import difflib
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from genax.core.errors import GenaxError
from genax.settings.flat import flat


def override(config: ConfigDict, settings: Mapping[str, Any]) -> ConfigDict:
    """Return the settings with other values of some of them, keeping each one's type.

    settings: by dotted name, or nested. A text is read as on the command line.

    Raises GenaxError for an unknown key, naming the closest, and for a value of another type or one
    that is not finite. What a value may be beyond that is said by ranges: see `check_ranges`.
    """
    config = config.copy_and_resolve_references()
    known = flat(config)
    for key, given in flat(settings).items():
        if key not in known:
            raise GenaxError(
                f"no setting config.{key}; the closest is config.{_closest(key, known)}."
            )
        *parents, name = key.split(".")
        node = config
        for parent in parents:
            node = node[parent]
        with node.unlocked():
            node[name] = _parse(key, given, known[key])
    return config.lock()


def _closest(key: str, known: Iterable[str]) -> str:
    """The known key most like `key`, or with a part most like it: "mesh" is "parallel.mesh"."""

    def likeness(name: str) -> float:
        return max(
            difflib.SequenceMatcher(None, key, part).ratio() for part in (name, *name.split("."))
        )

    return max(known, key=likeness)


def _parse(key: str, given: Any, old: Any) -> Any:
    wanted = type(old)
    value = os.fspath(given) if isinstance(given, os.PathLike) else given
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, str):
        if isinstance(old, str):
            return value
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
    if isinstance(old, tuple) and isinstance(value, list | int | float):
        value = tuple(value) if isinstance(value, list) else (value,)
    if isinstance(old, tuple) and old and isinstance(value, tuple):
        value = tuple(_like(old[0], number) for number in value)
        same = all(type(number) is type(old[0]) for number in value)
    else:
        value = _like(old, value)
        same = old is None or type(value) is wanted
    if not same:
        raise GenaxError(f"config.{key}={given}: expected {wanted.__name__}, as in {old!r}.")
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            raise GenaxError(f"config.{key}={given}: expected a finite number, as in {old!r}.")
    return value


def _like(old: Any, value: Any) -> Any:
    """A whole number as a float if the old value is one."""
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    return value


def difference(
    old: Mapping[str, Any], new: Mapping[str, Any], keys: Iterable[str] = ()
) -> list[str]:
    """Lines "key: old -> new" for settings that differ; `keys` limits them to these prefixes."""
    old, new = flat(old), flat(new)
    prefixes = tuple(keys)
    return [
        f"{key}: {old.get(key, '(none)')} -> {new.get(key, '(none)')}"
        for key in sorted({*old, *new})
        if _plain(old.get(key)) != _plain(new.get(key))
        and (not prefixes or any(key == p or key.startswith(p + ".") for p in prefixes))
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
