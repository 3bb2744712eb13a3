"""Files of a form: those of a folder by split, and their text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genax.core.errors import GenaxError
from genax.data.own.table import split_name


def files_by_split(path: Path, endings: Sequence[str]) -> dict[str, list[Path]]:
    """Return a file, or those of a folder with these endings, sorted, by split.

    A file or a folder at the top that is called train, validation or test is of that split. If one
    is called otherwise, all are of the split "". Raises GenaxError if there is none.
    """
    if path.is_file():
        return {"": [path]}
    found = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in endings
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not found:
        raise GenaxError(f"{path} holds no file that ends with {' or '.join(endings)}.")
    splits: dict[str, list[Path]] = {}
    for file in found:
        top = file.relative_to(path).parts[0]
        split = split_name(top.partition(".")[0] if top == file.name else top)
        if split is None:
            return {"": found}
        splits.setdefault(split, []).append(file)
    return splits


def read_text(path: Path) -> str:
    """Return a file's text. Raises GenaxError if it is not in UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise GenaxError(
            f"{path} is no text in UTF-8 (byte {error.start}); save it as UTF-8."
        ) from error
