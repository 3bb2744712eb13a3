"""Files that are whole or not there, and JSON that every parser reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from etils import epath

from genax.core.errors import GenaxError
from genax.settings.flat import flat


def read_json(path: epath.PathLike) -> dict[str, Any]:
    """The JSON object in a file; raises GenaxError if it holds anything else."""
    try:
        found = json.loads(epath.Path(path).read_text())
    except (ValueError, RecursionError) as error:
        raise GenaxError(f"{path} is not readable as JSON ({error}); restore it.") from error
    if not isinstance(found, dict):
        raise GenaxError(f"{path} holds no JSON object; restore it.")
    return found


def to_json(value: Mapping[str, Any], **options: Any) -> str:
    """JSON text; raises GenaxError for NaN and infinity, which JSON does not have."""
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:
        wrong = [f"{name}={leaf}" for name, leaf in flat(value).items() if not _finite(leaf)]
        raise GenaxError(f"{', '.join(wrong)} is no finite number; give one.") from None


def _finite(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def write_json(path: epath.Path, value: Mapping[str, Any]) -> None:
    """`write_text` of a JSON value."""
    write_text(path, to_json(value, indent=1) + "\n")


def write_text(path: epath.Path, text: str) -> None:
    """Replace a file in one move, so that nobody, killed or reading, ever leaves or sees half."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)
