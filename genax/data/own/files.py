"""The files of a path: what there is, by split, and their text."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from genax.core.errors import GenaxError
from genax.data.own.table import split_name


@dataclass(frozen=True)
class Files:
    """A file, or all files below a folder.

    path: of the file or folder.
    stamps: size and time of the last change of each file, by its path below the folder; "" is the
      file itself. Hidden files are left out.
    """

    path: Path
    stamps: Mapping[str, tuple[int, int]]

    def place(self, name: str) -> str:
        """Return the whole path of a file."""
        return f"{self._root}{os.sep}{name}" if name else self._root

    @cached_property
    def _root(self) -> str:
        return str(self.path)


def find_files(path: Path) -> Files:
    """Return what there is at a path, sorted."""
    if path.is_dir():
        return Files(path, dict(sorted(_below(str(path), ""))))
    facts = path.stat()
    return Files(path, {"": (facts.st_size, facts.st_mtime_ns)})


def _below(folder: str, prefix: str) -> Iterator[tuple[str, tuple[int, int]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in ("__MACOSX", "Thumbs.db"):
                continue
            if entry.is_dir():
                yield from _below(entry.path, f"{prefix}{entry.name}/")
            else:
                facts = entry.stat()
                yield prefix + entry.name, (facts.st_size, facts.st_mtime_ns)


def files_by_split(files: Files, endings: Sequence[str]) -> dict[str, list[str]]:
    """Return the paths of a file, or of those of a folder with these endings, by split.

    A file or a folder at the top that is called train, validation or test is of that split. If one
    is called otherwise, all are of the split "". Raises GenaxError if there is none.
    """
    names = [name for name in files.stamps if not name or name.lower().endswith(tuple(endings))]
    if not names:
        raise GenaxError(f"{files.path} holds no file that ends with {' or '.join(endings)}.")
    splits: dict[str, list[str]] = {}
    for name in names:
        top, slash, _ = name.partition("/")
        split = split_name(top if slash else top.partition(".")[0])
        if split is None:
            return {"": [files.place(name) for name in names]}
        splits.setdefault(split, []).append(files.place(name))
    return splits


def read_text(path: str) -> str:
    """Return a file's text. Raises GenaxError if it is not in UTF-8."""
    try:
        return Path(path).read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise GenaxError(
            f"{path} is no text in UTF-8 (byte {error.start}); save it as UTF-8."
        ) from error
