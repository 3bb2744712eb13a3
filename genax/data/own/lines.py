"""jsonl:PATH and csv:PATH, a row a line: classified, scored, tagged and paired texts."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from genax.core.errors import GenaxError
from genax.data.fields import Field, Number, Numbers, Other, Real, Text, Texts
from genax.data.own.files import Files, files_by_split, read_text
from genax.data.own.table import Column, Damaged, Table, Values

Row = Mapping[str, Any]
# A place in a file, and a row or why there is none.
Rows = Iterator[tuple[str, Row | str]]


def read_jsonl(files: Files, damaged: Damaged) -> Table:
    """Return the objects of a file, one a line, or of a folder of such files."""
    return _table(files, damaged, (".jsonl", ".ndjson", ".json"), _objects)


def read_csv(files: Files, damaged: Damaged) -> Table:
    """Return the rows of a file, or of a folder of such files; the first line names columns."""
    return _table(files, damaged, (".csv", ".tsv"), _cells)


def _table(
    files: Files, damaged: Damaged, endings: Sequence[str], parse: Callable[[str], Rows]
) -> Table:
    rows: list[Row] = []
    places: list[str] = []
    splits: dict[str, list[int]] = {}
    by_split = files_by_split(files, endings)
    for split, paths in by_split.items():
        for file in paths:
            for place, row in parse(file):
                if isinstance(row, str):
                    damaged.add(place, row)
                    continue
                splits.setdefault(split, []).append(len(rows))
                rows.append(row)
                places.append(place)
    return table_of(rows, places, splits if "" not in by_split else {}, damaged, str(files.path))


def table_of(
    rows: Sequence[Row],
    places: Sequence[str],
    splits: Mapping[str, Sequence[int]],
    damaged: Damaged,
    source: str,
) -> Table:
    """Return rows as columns, each of the field that fits its values.

    places: what names a row for a user.
    splits: rows by split.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    kept = []
    for number, row in enumerate(rows):
        missing = [name for name in names if row.get(name) is None]
        if missing:
            damaged.add(places[number], f"it has no {missing[0]!r}")
        else:
            kept.append(number)
    if not kept:
        raise GenaxError(f"{source} holds no rows that can be read.")
    columns: dict[str, Column] = {}
    for name in names:
        values = [rows[number][name] for number in kept]
        columns[name] = Values(*_typed(values))
    place = {number: row for row, number in enumerate(kept)}
    found = {
        split: np.array([place[number] for number in numbers if number in place], np.int64)
        for split, numbers in splits.items()
    }
    return Table(columns, found, says=(f"{len(kept)} rows of {', '.join(names)}",))


def _typed(values: Sequence[Any]) -> tuple[Field, Sequence[Any]]:
    """Return the field that fits all values, and the values as it has them."""
    if all(isinstance(value, int) for value in values):
        return Number(), [int(value) for value in values]
    if all(isinstance(value, int | float) for value in values):
        return Real(), values
    if all(isinstance(value, str | int | float) for value in values):
        return Text(), [
            value if isinstance(value, str) else json.dumps(value, allow_nan=False)
            for value in values
        ]
    if all(isinstance(value, list) for value in values):
        parts = [part for value in values for part in value]
        if all(isinstance(part, int) for part in parts) and parts:
            return Numbers(), [tuple(map(int, value)) for value in values]
        if all(isinstance(part, str) for part in parts):
            return Texts(), [tuple(value) for value in values]
    return Other("mixed"), values


def _objects(path: str) -> Rows:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            found = json.loads(line, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            yield place, f"it is no JSON: {error}"
            continue
        yield place, dict(_flat(found)) if isinstance(found, dict) else "it is no JSON object"


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _flat(found: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def _cells(path: str) -> Rows:
    text = read_text(path)
    first = text.partition("\n")[0]
    delimiter = "\t" if path.lower().endswith(".tsv") else ","
    if delimiter not in first:
        delimiter = next((other for other in ";\t" if other in first), delimiter)
    limit = csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    try:
        yield from _columns(path, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    finally:
        csv.field_size_limit(limit)


def _columns(path: str, reader: Any) -> Rows:
    """Return the rows of one file; a column of numbers is known by all of its cells."""
    names, *cells = [(reader.line_num, row) for row in _checked(path, reader) if row] or [(0, [])]
    header = [name.strip() for name in names[1]]
    if len(set(header)) < len(header) or not all(header):
        raise GenaxError(
            f"{path} begins with {', '.join(header)}; its first line names the "
            "columns, each differently."
        )
    whole = [row for _, row in cells if len(row) == len(header)]
    kinds = [_kind([row[column] for row in whole]) for column in range(len(header))]
    for line, row in cells:
        place = f"{path}, line {line}"
        if len(row) != len(header):
            yield place, f"it has {len(row)} cells under {len(header)} names"
            continue
        values = (
            None if kind is not str and not cell.strip() else kind(cell)
            for kind, cell in zip(kinds, row, strict=True)
        )
        yield place, dict(zip(header, values, strict=True))


def _checked(path: str, reader: Any) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise GenaxError(f"{path} is no CSV at line {reader.line_num} ({error}).") from error


def _kind(cells: Iterable[str]) -> type:
    """Return int, float or str: what all cells that are not empty can be."""
    filled = [cell for cell in cells if cell.strip()]
    for kind in (int, float) if filled else ():
        try:
            for cell in filled:
                if "_" in cell or not math.isfinite(kind(cell)):
                    raise ValueError(cell)
        except (ValueError, OverflowError):
            continue
        return kind
    return str
