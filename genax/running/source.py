"""The text of a run's experiment, of which its folder keeps a copy."""

from __future__ import annotations

import difflib
import hashlib
import re

from etils import epath

from genax.settings.files import write_text

COPY = "experiment.py"
_STEM = COPY.removesuffix(".py")
# A difference is said up to so many lines.
_LINES = 40


def digest(text: str) -> str:
    """Return the SHA-256 (hex) of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def keep(text: str, workdir: epath.Path, step: int) -> list[str]:
    """Write the copy and return what to say of a text that changed.

    text: of the experiment that trains from now on.
    step: of the checkpoint that it goes on from. The older text stays under this number.
    """
    path = workdir / COPY
    old = path.read_text() if path.exists() else text
    says = []
    if old != text:
        aside = _free(workdir, step)
        write_text(aside, old)
        says = [f"changed experiment; the text before step {step} is kept in {aside}:"]
        says += difference(old, text)
    write_text(path, text)
    return says


def difference(old: str, new: str) -> list[str]:
    """Return the unified difference of two texts in lines, cut if it is long."""
    lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), n=1, lineterm=""))[2:]
    left = len(lines) - _LINES
    return lines if left <= 0 else [*lines[:_LINES], f"... and {left} more lines"]


def find(workdir: epath.Path, wanted: str | None) -> epath.Path | None:
    """Return the file of a run's folder that holds the text of a digest, if there is one."""
    for path in _copies(workdir) if wanted else ():
        if digest(path.read_text()) == wanted:
            return path
    return None


def older(workdir: epath.Path) -> list[epath.Path]:
    """Return the files of a run's folder that hold texts before a change."""
    return [path for path in _copies(workdir) if path.name != COPY]


def _copies(workdir: epath.Path) -> list[epath.Path]:
    pattern = re.escape(_STEM) + r"(\.\d+)*\.py"
    return sorted(path for path in workdir.iterdir() if re.fullmatch(pattern, path.name))


def _free(workdir: epath.Path, step: int) -> epath.Path:
    """Return a path for the text that a step was trained with, where nothing is yet."""
    path, number = workdir / f"{_STEM}.{step:08d}.py", 0
    while path.exists():
        number += 1
        path = workdir / f"{_STEM}.{step:08d}.{number}.py"
    return path
