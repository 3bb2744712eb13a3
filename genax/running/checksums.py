"""Whether the files of a checkpoint are still what was written."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator

import jax
from etils import epath

from genax.settings.files import write_json

BLOCK = 1 << 24


def seal(folder: epath.Path) -> None:
    """Write the size and CRC-32 of every file below a folder that this process wrote.

    Object stores (gs://) check content themselves; nothing is written there.
    """
    if "://" in str(folder):
        return
    mine = f"process_{jax.process_index()}"
    found = {}
    for path in _files(folder):
        owners = [part for part in path.parts if part.partition("process_")[1]]
        if owners[-1:] and not owners[-1].endswith(mine):
            continue
        if owners or jax.process_index() == 0:
            found["/".join(path.relative_to(folder).parts)] = _measure(path)
    write_json(folder / f"checksums.{mine}.json", found)


def damage(folder: epath.Path) -> list[str]:
    """What is wrong with the files of a sealed folder, a line each.

    A folder that was never sealed (its process was killed right after saving) has nothing to
    compare with and gives no line.
    """
    lines = []
    for listing in sorted(folder.glob("checksums.process_*.json")):
        expected = _expected(listing)
        if expected is None:
            lines.append(f"{listing.name} is not readable")
            continue
        for name, (size, crc) in expected.items():
            path = folder / name
            if not path.exists():
                lines.append(f"{name} is gone")
            elif path.stat().length != size:
                lines.append(f"{name} has {path.stat().length} bytes, not {size}")
            elif _measure(path)[1] != crc:
                lines.append(f"{name} has another content than was written")
    return lines


def _expected(listing: epath.Path) -> dict[str, list[int]] | None:
    """Size and CRC-32 by name; None if a listing is not what `seal` writes."""
    try:
        found = json.loads(listing.read_text())
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    pairs = all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, int) for part in pair)
        for pair in found.values()
    )
    # The first process writes the record of every checkpoint, so its listing is never empty.
    missing = not found and listing.name == "checksums.process_0.json"
    return found if pairs and not missing else None


def _files(folder: epath.Path) -> Iterator[epath.Path]:
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files(path)
        elif not path.name.startswith("checksums."):
            yield path


def _measure(path: epath.Path) -> list[int]:
    crc, size = 0, 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            crc, size = zlib.crc32(block, crc), size + len(block)
    return [size, crc]
