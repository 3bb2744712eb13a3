"""Settings by dotted name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key to value, for all leaves of a nested mapping."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves
