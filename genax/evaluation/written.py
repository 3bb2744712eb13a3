"""Files that an evaluator leaves in the folder of a run, beside its scores."""

from __future__ import annotations

import io
from typing import Any

import jax
from etils import epath
from PIL import Image


def write_content(content: bytes, workdir: Any, name: str) -> epath.Path | None:
    """Write WORKDIR/evaluation/NAME in place of an older one, by the first process alone.

    workdir: None writes nothing.
    Returns the path, or None if nothing was written.
    """
    if workdir is None or jax.process_index():
        return None
    path = epath.Path(workdir) / "evaluation" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_picture(picture: Image.Image, workdir: Any, name: str) -> epath.Path | None:
    """Write a picture as WORKDIR/evaluation/NAME.png: see `write_content`."""
    content = io.BytesIO()
    picture.save(content, "PNG")
    return write_content(content.getvalue(), workdir, f"{name}.png")
