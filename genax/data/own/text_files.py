"""text:PATH, one text file or a folder of them: a document a file."""

from __future__ import annotations

import numpy as np

from genax.core.errors import GenaxError
from genax.data.fields import Text
from genax.data.own.files import Files, files_by_split, read_text
from genax.data.own.table import Damaged, Table, Values

_ENDINGS = (".txt", ".md", ".text")


def read_text_files(files: Files, damaged: Damaged) -> Table:
    """Return the documents of a file or folder; without splits they are cut by position."""
    documents: list[str] = []
    splits: dict[str, list[int]] = {}
    for split, paths in files_by_split(files, _ENDINGS).items():
        for file in paths:
            try:
                text = read_text(file)
            except GenaxError as error:
                damaged.add(file, str(error))
                continue
            splits.setdefault(split or "train", []).append(len(documents))
            documents.append(text)
    characters = sum(map(len, documents))
    if not characters:
        raise GenaxError(f"{files.path} holds no text.")
    cut = "" if len(splits) > 1 else "; the first 90% train, the rest validate"
    noun = "document" if len(documents) == 1 else "documents"
    return Table(
        {"text": Values(Text(), documents)},
        {split: np.array(rows, np.int64) for split, rows in splits.items()},
        whole=True,
        says=(f"{len(documents)} {noun} of {characters:,} characters{cut}",),
    )
