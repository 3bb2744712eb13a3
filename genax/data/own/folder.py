"""folder:PATH, pictures in a folder: subfolders are classes, texts beside pictures are captions."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from genax.core.errors import GenaxError
from genax.data.fields import Label, Text
from genax.data.own.pictures import ENDINGS, Encoded, pictures
from genax.data.own.table import Column, Damaged, Table, Values, said_classes, split_name

CAPTIONS = "captions.jsonl"


def read_folder(path: Path, damaged: Damaged) -> Table:
    """Return the pictures of a folder with their classes and captions.

    Folders train, validation and test at the top are splits. Raises GenaxError if there is no
    picture, or some lie in folders of classes and others beside these.
    """
    files = {found[0]: found for found in _files(path, "")}
    names = sorted(name for name in files if name.lower().endswith(ENDINGS))
    if not names:
        raise GenaxError(
            f"folder:{path} holds no picture; it reads {', '.join(ENDINGS)} and what lies in "
            "subfolders."
        )
    encoded = [
        Encoded(str(path / name), files[name][1], files[name][2], _opener(path / name))
        for name in names
    ]
    column, good = pictures(encoded, damaged, path)
    names = [names[number] for number in good]
    if not names:
        raise GenaxError(f"folder:{path} holds no picture that can be read.")
    splits, inner = _splits(names)
    columns: dict[str, Column] = {"image": column}
    says: list[str] = []
    classes = _classes(path, inner)
    if classes:
        found = [name.partition("/")[0] for name in inner]
        columns["label"] = Values(Label(len(classes), classes), [classes.index(f) for f in found])
        says.append(f"label: {said_classes(classes)}")
    captions = _captions(path, names, files)
    if captions:
        columns["caption"] = Values(Text(), [captions.get(name, "") for name in names])
        missing = len(names) - len(captions)
        says += [f"{missing} of {len(names)} pictures have no caption"] if missing else []
    read = {*names, CAPTIONS, *(f"{os.path.splitext(name)[0]}.txt" for name in captions)}
    others = [n for n in files if n not in read and os.path.basename(n) != CAPTIONS]
    others = [n for n in others if not n.lower().endswith(ENDINGS)]
    if others:
        shown = ", ".join(sorted(others)[:3]) + (", ..." if len(others) > 3 else "")
        says.append(f"{len(others)} files are no pictures and are not read ({shown})")
    return Table(columns, splits, says=(*says, *column.says))


def _files(folder: Path, prefix: str) -> Iterator[tuple[str, int, int]]:
    """Yield the path below a folder, size and time of change of each file, hidden ones left out."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in ("__MACOSX", "Thumbs.db"):
                continue
            if entry.is_dir():
                yield from _files(Path(entry.path), f"{prefix}{entry.name}/")
            else:
                facts = entry.stat()
                yield prefix + entry.name, facts.st_size, facts.st_mtime_ns


def _opener(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")


def _splits(names: list[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return rows by split ({} if no folder is a split), and the paths within the splits."""
    tops = [name.partition("/") for name in names]
    found = [split_name(top) if slash else None for top, slash, _ in tops]
    if None in found:
        return {}, names
    splits = {
        split: np.array([row for row, one in enumerate(found) if one == split], np.int64)
        for split in dict.fromkeys(one for one in found if one is not None)
    }
    return splits, [inner for *_, inner in tops]


def _classes(path: Path, names: list[str]) -> tuple[str, ...]:
    counts = Counter(name.partition("/")[0] if "/" in name else "" for name in names)
    if "" in counts and len(counts) > 1:
        raise GenaxError(
            f"folder:{path} has {counts['']} pictures beside the folders of classes "
            f"{', '.join(sorted(filter(None, counts))[:5])}; put each into the folder of its class."
        )
    return tuple(sorted(filter(None, counts)))


def _captions(path: Path, names: list[str], files: Mapping[str, object]) -> dict[str, str]:
    """Return the captions that there are, by picture."""
    found = {}
    for name in names:
        beside = f"{os.path.splitext(name)[0]}.txt"
        if beside in files:
            found[name] = _text(path / beside).strip()
    known = set(names)
    for listing in sorted(name for name in files if os.path.basename(name) == CAPTIONS):
        folder = listing.removesuffix(CAPTIONS)
        for number, line in enumerate(_text(path / listing).splitlines(), 1):
            if line.strip():
                name, caption = _line(f"{path / listing}, line {number}", line)
                if folder + name not in known and not (path / (folder + name)).exists():
                    raise GenaxError(
                        f"{path / listing}, line {number}: there is no picture {folder + name}; "
                        "name it by its path from that file."
                    )
                found[folder + name] = caption
    return {name: caption for name, caption in found.items() if name in known}


def _line(place: str, line: str) -> tuple[str, str]:
    try:
        found = json.loads(line)
        name = found.get("file_name", found.get("file"))
        caption = found.get("caption", found.get("text"))
    except (ValueError, AttributeError):
        name = caption = None
    if not isinstance(name, str) or not isinstance(caption, str):
        raise GenaxError(f'{place} is not {{"file_name": "a.png", "caption": "a text"}}.')
    return name, caption


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise GenaxError(f"{path} is no text in UTF-8 ({error}); save it as UTF-8.") from error
