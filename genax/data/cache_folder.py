"""The folder of what genax keeps of data sets."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$GENAX_DATA, or ~/.cache/genax. It has TFDS's layout, NAME/VERSION, and is never in git."""
    return Path(os.environ.get("GENAX_DATA") or Path.home() / ".cache" / "genax").expanduser()
