"""hf:PATH, what `datasets` saves: Arrow files of `save_to_disk`, or Parquet files."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any

import numpy as np

from genax.core.errors import GenaxError
from genax.data.cache_folder import cache_folder
from genax.data.fields import (
    Field,
    Label,
    Number,
    Other,
    Real,
    Text,
    list_of,
)
from genax.data.own.files import Files
from genax.data.own.pictures import Pictures, pictures
from genax.data.own.table import Damaged, Table, said_classes, split_name

# Parquet files of so many bytes are kept as Arrow.
_LARGE = 64 << 20


@dataclass(frozen=True)
class Cells:
    """A column of an Arrow table; its values are read as they are taken.

    column: a pyarrow.ChunkedArray.
    """

    field: Field
    column: Any

    def __len__(self) -> int:
        return len(self.column)

    def take(self, rows: np.ndarray) -> list[Any]:
        """Return the values of rows, int64 [n]."""
        found = (self.column[row].as_py() for row in rows.tolist())
        return [tuple(one) if isinstance(one, list) else one for one in found]

    def only(self, rows: np.ndarray) -> Cells:
        """Return the column of some rows."""
        every = len(rows) == len(self.column)
        return self if every else Cells(self.field, self.column.take(rows))

    def digests(self) -> Sequence[bytes]:
        """Return a hash of each value."""
        return [
            hashlib.sha256(repr(value.as_py()).encode(errors="surrogatepass")).digest()
            for value in self.column
        ]


@dataclass(frozen=True)
class EncodedCells:
    """Pictures in an Arrow table, as bytes or as paths of files.

    name: of the column.
    column: a pyarrow.ChunkedArray of structs.
    """

    files: Files
    name: str
    column: Any

    def __len__(self) -> int:
        return len(self.column)

    def place(self, number: int) -> str:
        """Return the number of a picture."""
        return f"{self.name} {number} of hf:{self.files.path}"

    def stamp(self, number: int) -> tuple[int, int]:
        """Return a picture's bytes, and when any of the files was changed last."""
        content = self.column[number]["bytes"]
        return (len(content.as_buffer()) if content.is_valid else 0), self._changed

    @cached_property
    def _changed(self) -> int:
        return max(changed for _, changed in self.files.stamps.values())

    def open(self, number: int) -> IO[bytes]:
        """Return a file of a picture's bytes."""
        content, path = (self.column[number][part] for part in ("bytes", "path"))
        if content.is_valid:
            return io.BytesIO(content.as_py())
        return open(os.path.join(self.files.path, path.as_py() or ""), "rb")


def read_hugging_face(files: Files, damaged: Damaged) -> Table:
    """Return the rows of a saved data set. Raises GenaxError if pyarrow is missing."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise GenaxError(f"hf:{files.path} needs pyarrow; run: pip install 'genax[hf]'") from error
    endings = (".arrow", ".parquet")
    names = [
        name
        for name in files.stamps
        if (name or str(files.path)).endswith(endings)
        # What `datasets` computed from others.
        and not os.path.basename(name).startswith("cache-")
    ]
    if not names:
        raise GenaxError(
            f"hf:{files.path} holds no .arrow and no .parquet file; name a folder that "
            "save_to_disk of `datasets` wrote, or one of Parquet files."
        )
    parts: dict[str, list[Any]] = {}
    for name in names:
        try:
            parts.setdefault(_split(name), []).append(_read(files, name))
        except (pa.ArrowException, OSError) as error:
            raise GenaxError(f"{files.place(name)} cannot be read ({error}).") from error
    try:
        table = pa.concat_tables([one for tables in parts.values() for one in tables])
    except pa.ArrowException as error:
        raise GenaxError(f"the files of hf:{files.path} differ in columns ({error}).") from error
    columns: dict[str, Any] = {}
    good = np.arange(len(table), dtype=np.int64)
    for name, column, feature in _flat(table):
        if _is_picture(column.type, feature):
            found = pictures(EncodedCells(files, name, column), damaged, files.path)
            columns[name], readable = found, np.array(found.numbers, np.int64)
        else:
            columns[name] = Cells(_field(column.type, feature), column)
            present = np.asarray(column.is_valid())
            for row in np.flatnonzero(~present).tolist():
                damaged.add(f"row {row} of hf:{files.path}", f"it has no {name!r}")
            readable = np.flatnonzero(present)
        good = np.intersect1d(good, readable)
    if not len(good):
        raise GenaxError(f"hf:{files.path} holds no rows that can be read.")
    columns = {name: column.only(good) for name, column in columns.items()}
    splits = {} if "" in parts else _splits(parts, good)
    return Table(columns, splits, says=tuple(_says(columns)))


def _says(columns: Mapping[str, Any]) -> Iterator[str]:
    for name, column in columns.items():
        if isinstance(column, Pictures):
            yield from column.says
        elif getattr(column.field, "names", ()):
            yield f"{name}: {said_classes(column.field.names)}"


def _split(name: str) -> str:
    """Return the split that a file is of, by its name or that of a folder, or ""."""
    for part in name.split("/"):
        split = split_name(part.partition(".")[0].partition("-")[0])
        if split is not None:
            return split
    return ""


def _splits(parts: Mapping[str, Sequence[Any]], good: np.ndarray) -> dict[str, np.ndarray]:
    """Return the rows of each split, numbered among those that can be read."""
    ends = np.cumsum([0] + [sum(map(len, tables)) for tables in parts.values()])
    limits = np.searchsorted(good, ends)
    return {
        split: np.arange(first, last, dtype=np.int64)
        for split, first, last in zip(parts, limits, limits[1:], strict=False)
    }


def _read(files: Files, name: str) -> Any:
    """Return the table of a file, mapped from the disk if it is large."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = files.place(name)
    if path.endswith(".arrow"):
        return _mapped(path)
    size, changed = files.stamps[name]
    if size < _LARGE:
        return pq.read_table(path)
    # Rows of Parquet cannot be read by number, so they are kept as Arrow.
    key = hashlib.sha256(repr((path, size, changed)).encode()).hexdigest()[:32]
    kept = cache_folder() / "own" / f"{key}.arrow"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial, source = kept.with_suffix(f".{os.getpid()}"), pq.ParquetFile(path)
        schema = source.schema_arrow
        with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for batch in source.iter_batches(1000):
                writer.write_batch(batch)
        partial.replace(kept)
    return _mapped(str(kept))


def _mapped(path: str) -> Any:
    import pyarrow as pa

    source = pa.memory_map(path)
    try:
        return pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(source).read_all()


def _flat(table: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, column and feature of each part; those within a part are "outer/inner"."""
    import pyarrow.compute as pc
    import pyarrow.types as types

    metadata = table.schema.metadata or {}
    described = json.loads(metadata.get(b"huggingface", b"{}"))
    features = described.get("info", {}).get("features", {})
    waiting = [(name, table[name], features.get(name)) for name in table.column_names]
    while waiting:
        name, column, feature = waiting.pop(0)
        if types.is_struct(column.type) and not _is_picture(column.type, feature):
            inner = _within(feature)
            waiting += [
                (f"{name}/{part.name}", pc.struct_field(column, part.name), inner.get(part.name))
                for part in column.type
            ]
        else:
            yield name, column, feature


def _within(feature: Any) -> Mapping[str, Any]:
    """Return the features of a struct, or of a list of structs."""
    if isinstance(feature, dict) and "_type" in feature:
        return _within(feature.get("feature"))
    return feature if isinstance(feature, dict) else {}


def _is_picture(kind: Any, feature: Any) -> bool:
    import pyarrow.types as types

    if not types.is_struct(kind) or {part.name for part in kind} != {"bytes", "path"}:
        return False
    return not isinstance(feature, dict) or feature.get("_type") in (None, "Image")


def _field(kind: Any, feature: Any) -> Field:
    """Return the field of a column's type; a feature may name the classes."""
    import pyarrow.types as types

    names = tuple(feature.get("names") or ()) if isinstance(feature, dict) else ()
    if types.is_list(kind) or types.is_large_list(kind):
        inner = feature.get("feature") if isinstance(feature, dict) else None
        return list_of(_field(kind.value_type, inner), str(kind))
    if types.is_integer(kind) or types.is_boolean(kind):
        return Label(len(names), names) if names else Number()
    if types.is_floating(kind):
        return Real()
    return Text() if types.is_string(kind) or types.is_large_string(kind) else Other(str(kind))
