"""The forms by which a user names files of their own, and what reads each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from genax.core.errors import GenaxError
from genax.data.own.arrays import read_npz
from genax.data.own.files import Files, find_files
from genax.data.own.folder import read_folder
from genax.data.own.hugging_face import read_hugging_face
from genax.data.own.lines import read_csv, read_jsonl
from genax.data.own.table import Damaged, Table, with_classes
from genax.data.own.text_files import read_text_files

DAMAGED = ("refuse", "skip")


@dataclass(frozen=True)
class Form:
    """What a path is after a prefix.

    what: what it reads, in a line.
    read: returns the table of a path.
    """

    what: str
    read: Callable[[Files, Damaged], Table]


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "folder": Form("pictures; subfolders are classes", read_folder),
        "npz": Form("arrays by name: image, label, x_train, ...", read_npz),
        "text": Form("a text file, or a folder of them", read_text_files),
        "jsonl": Form("a JSON object a line", read_jsonl),
        "csv": Form("a table of texts, classes and numbers; .tsv too", read_csv),
        "hf": Form("what save_to_disk of `datasets` writes, or Parquet files", read_hugging_face),
    }
)


def form_of(name: str) -> str | None:
    """Return the form of "FORM:PATH", None for another name."""
    form, colon, _ = name.partition(":")
    return form if colon and form in FORMS else None


def named_forms() -> str:
    """Return the forms as a user writes them, for messages."""
    return ", ".join(f"{form}:PATH" for form in FORMS)


def open_table(name: str, damaged: str = "refuse", classes: Sequence[str] = ()) -> Table:
    """Return the table of "FORM:PATH".

    damaged: "refuse", or "skip" to leave out and count what cannot be read.
    classes: columns whose texts are names of classes.
    Raises GenaxError if there is no such path, or what is there cannot be read.
    """
    if damaged not in DAMAGED:
        raise GenaxError(f"damaged={damaged!r} is none of {', '.join(DAMAGED)}.")
    form, _, text = name.partition(":")
    path = Path(text).expanduser().resolve()
    if not text or not path.exists():
        raise GenaxError(
            f"{name}: there is no {path if text else 'path after the colon'}; name what is there, "
            f"such as --config.dataset={form}:PATH, by its path from here or from the root."
        )
    try:
        files = find_files(path)
        return _table(form, path, tuple(files.stamps.items()), damaged, tuple(classes))
    except OSError as error:
        raise GenaxError(f"{name}: {path} cannot be read ({error}).") from error


# Training and evaluation data open the same files; those that changed meanwhile are read again.
@lru_cache(maxsize=4)
def _table(
    form: str, path: Path, stamps: tuple[Any, ...], damaged: str, classes: tuple[str, ...]
) -> Table:
    found = Damaged(damaged)
    try:
        table = with_classes(FORMS[form].read(Files(path, dict(stamps)), found), classes)
    finally:
        # What is damaged may be why the rest is refused.
        found.check()
    return replace(table, says=(*table.says, *found.says))
