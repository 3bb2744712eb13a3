"""folder:PATH, pictures in a folder: subfolders are classes, texts beside pictures are captions."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from genax.core.errors import GenaxError
from genax.data.fields import Label, Text
from genax.data.own.files import Files, read_text
from genax.data.own.pictures import ENDINGS, pictures
from genax.data.own.table import Column, Damaged, Table, Values, said_classes, split_name

CAPTIONS = "captions.jsonl"


@dataclass(frozen=True)
class EncodedFiles:
    """Pictures as files.

    names: their paths below the folder.
    """

    files: Files
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def place(self, number: int) -> str:
        """Return the path of a picture."""
        return self.files.place(self.names[number])

    def stamp(self, number: int) -> tuple[int, int]:
        """Return a picture's bytes, and when it was changed last."""
        return self.files.stamps[self.names[number]]

    def open(self, number: int) -> IO[bytes]:
        """Return the file of a picture."""
        return open(self.place(number), "rb")


def read_folder(files: Files, damaged: Damaged) -> Table:
    """Return the pictures of a folder with their classes and captions.

    Folders train, validation and test at the top are splits. Pictures come in an order that their
    content decides, so that the first ones are of all classes. Raises GenaxError if there is no
    picture, or some lie in folders of classes and others beside these.
    """
    path = files.path
    names = [name for name in files.stamps if name.lower().endswith(ENDINGS)]
    if not names:
        raise GenaxError(
            f"folder:{path} holds no picture; it reads {', '.join(ENDINGS)} and what lies in "
            "subfolders."
        )
    column = pictures(EncodedFiles(files, names), damaged, path).by_content()
    others = [n for n in files.stamps.keys() - {*names} if os.path.basename(n) != CAPTIONS]
    names = [names[number] for number in column.numbers]
    if not names:
        raise GenaxError(f"folder:{path} holds no picture that can be read.")
    splits, inner = _splits(names)
    columns: dict[str, Column] = {"image": column}
    says: list[str] = []
    classes = _classes(path, inner)
    if classes:
        numbers = {name: number for number, name in enumerate(classes)}
        labels = [numbers[name.partition("/")[0]] for name in inner]
        columns["label"] = Values(Label(len(classes), classes), labels)
        says.append(f"label: {said_classes(classes)}")
    captions = _captions(files, names)
    if captions:
        columns["caption"] = Values(Text(), [captions.get(name, "") for name in names])
        missing = len(names) - len(captions)
        says += [f"{missing} of {len(names)} pictures have no caption"] if missing else []
    others = sorted({*others} - {_beside(name) for name in captions})
    if others:
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        noun = "file is no picture and is" if len(others) == 1 else "files are no pictures and are"
        says.append(f"{len(others)} {noun} not read ({shown})")
    return Table(columns, splits, says=(*says, *column.says))


def _beside(name: str) -> str:
    """Return the path of the text that belongs to a picture."""
    return f"{os.path.splitext(name)[0]}.txt"


def _splits(names: list[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return rows by split ({} if no folder is a split), and the paths within the splits."""
    tops = [name.partition("/")[0] if "/" in name else "" for name in names]
    known = {top: split_name(top) for top in {*tops}}
    if None in known.values():
        return {}, names
    splits: dict[str, list[int]] = {}
    for row, top in enumerate(tops):
        splits.setdefault(str(known[top]), []).append(row)
    inner = [name.partition("/")[2] for name in names]
    return {split: np.array(rows, np.int64) for split, rows in splits.items()}, inner


def _classes(path: Path, names: list[str]) -> tuple[str, ...]:
    counts = Counter(name.partition("/")[0] if "/" in name else "" for name in names)
    if "" in counts and len(counts) > 1:
        raise GenaxError(
            f"folder:{path} has {counts['']} pictures beside the folders of classes "
            f"{', '.join(sorted(filter(None, counts))[:5])}; put each into the folder of its class."
        )
    return tuple(sorted(filter(None, counts)))


def _captions(files: Files, names: list[str]) -> dict[str, str]:
    """Return the captions that there are, by picture."""
    texts = {name for name in files.stamps if name.endswith(".txt")}
    found = {
        name: read_text(files.place(_beside(name))).strip()
        for name in names
        if texts and _beside(name) in texts
    }
    for listing in (name for name in files.stamps if os.path.basename(name) == CAPTIONS):
        folder, path = listing.removesuffix(CAPTIONS), files.place(listing)
        for number, line in enumerate(read_text(path).split("\n"), 1):
            if line.strip():
                name, caption = _line(f"{path}, line {number}", line)
                if folder + name not in files.stamps:
                    raise GenaxError(
                        f"{path}, line {number}: there is no picture {folder}{name}; name it by "
                        "its path from that file."
                    )
                found[folder + name] = caption
    known = {*names}
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
