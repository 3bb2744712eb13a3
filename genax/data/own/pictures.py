"""Encoded pictures of any size and mode: looked at once, decoded as they are read."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
from PIL import Image as Picture
from PIL import ImageOps

from genax.core.errors import GenaxError
from genax.data.cache_folder import cache_folder
from genax.data.fields import Image
from genax.data.own.table import Damaged

ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"),
    *(".jp2", ".avif"),
)
# Sets of so many bytes are decoded once when they are opened; others are as they are read.
_DECODED = 64 << 20
# Of sets beyond that, only the first and the last bytes of a picture count.
_HASHED, _END = 1 << 30, 1 << 16
# What was found is kept for the next opening of so many pictures.
_KEPT = 100
_VERSION = 1
_GREY = ("1", "L", "LA", "La")
_ORIENTATION = 0x0112


class Facts(NamedTuple):
    """What is known of a picture without its pixels."""

    digest: str
    height: int = 0
    width: int = 0
    grey: bool = True
    # What is converted, in a user's words.
    notes: tuple[str, ...] = ()
    # Why it cannot be read; "" if it can.
    damage: str = ""


class Encoded(Protocol):
    """Pictures that are not decoded yet."""

    def __len__(self) -> int: ...

    def place(self, number: int) -> str:
        """Return what names a picture for a user."""
        ...

    def stamp(self, number: int) -> tuple[int, int]:
        """Return a picture's bytes, and when it was changed last."""
        ...

    def open(self, number: int) -> IO[bytes]:
        """Return a file of a picture's bytes."""
        ...


def look(file: IO[bytes], size: int, decode: bool, large: bool) -> Facts:
    """Return the facts of a picture.

    size: of the file, in bytes.
    decode: whether it is decoded, so that any damage is found.
    large: whether only its ends are hashed.
    """
    digest = hashlib.sha256(b"%d " % size)
    if large and size > 2 * _END:
        digest.update(file.read(_END))
        file.seek(-_END, io.SEEK_END)
    digest.update(file.read())
    file.seek(0)
    try:
        image = Picture.open(file)
        orientation = _orientation(image)
        width, height = image.size
        if orientation in (5, 6, 7, 8):
            width, height = height, width
        notes = _notes(image, orientation)
        grey = image.mode in _GREY or image.mode.startswith("I;16")
        if decode:
            file.seek(0)
            decoded(file, 3)
    except Exception as error:  # Pillow's readers raise many kinds
        return Facts(digest.hexdigest(), damage=_reason(error))
    return Facts(digest.hexdigest(), height, width, grey, notes)


def _orientation(image: Picture.Image) -> int:
    """Return how a picture is turned, by its EXIF: 1 is upright."""
    # A PNG may have it behind its pixels too, and there it does not count.
    tagged = image.format != "PNG" or "exif" in image.info
    return image.getexif().get(_ORIENTATION, 1) if tagged else 1


def _notes(image: Picture.Image, orientation: int) -> tuple[str, ...]:
    """Return what is converted. Raises ValueError for pixels that are no colours."""
    notes = []
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are numbers of 32 bits, not colours")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        notes.append("with transparency, laid on white")
    if image.mode in ("P", "PA"):
        notes.append("with a palette")
    # Pillow reads colours of 16 bits as 8, and says so in the raw mode only.
    if image.mode.startswith("I;16") or ";16" in str(getattr(image, "tile", "")):
        notes.append("of 16 bits, scaled to 8")
    elif image.mode not in ("1", "L", "LA", "La", "RGB", "RGBA", "RGBa", "P", "PA"):
        notes.append(f"of mode {image.mode}")
    if orientation in range(2, 9):
        notes.append("turned as EXIF says")
    return tuple(notes)


def _reason(error: Exception) -> str:
    if isinstance(error, Picture.UnidentifiedImageError):
        return "it is no picture that Pillow knows"
    return str(error).rstrip(".") or type(error).__name__


def decoded(file: IO[bytes], channels: int) -> np.ndarray:
    """Return uint8 [height, width, channels] (1 or 3): upright, opaque, of 8 bits."""
    with Picture.open(file) as opened:
        turned = _orientation(opened) != 1
        image = ImageOps.exif_transpose(opened) if turned else opened
        if image.mode.startswith("I;16"):
            # 65535 becomes 255.
            deep = np.asarray(image).astype(np.uint32)
            image = Picture.fromarray(((deep + 128) // 257).astype(np.uint8))
        if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
            colours = image.convert("RGBA")
            white = Picture.new("RGBA", colours.size, "white")
            image = Picture.alpha_composite(white, colours)
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels[..., None] if channels == 1 else pixels


@dataclass(frozen=True)
class Pictures:
    """A column of pictures, decoded as they are taken."""

    encoded: Encoded
    # Of all that are encoded, those that can be read.
    numbers: Sequence[int]
    facts: Sequence[Facts]

    @cached_property
    def field(self) -> Image:
        """Three channels unless all are grey; a side that varies is None."""
        heights, widths = {f.height for f in self.facts}, {f.width for f in self.facts}
        grey = all(facts.grey for facts in self.facts)
        return Image(
            heights.pop() if len(heights) == 1 else None,
            widths.pop() if len(widths) == 1 else None,
            1 if grey else 3,
        )

    def __len__(self) -> int:
        return len(self.numbers)

    def only(self, numbers: np.ndarray) -> Pictures:
        """Return some of the pictures, by their numbers among all."""
        places = {number: place for place, number in enumerate(self.numbers)}
        facts = [self.facts[places[number]] for number in numbers.tolist()]
        return Pictures(self.encoded, numbers.tolist(), facts)

    def by_content(self) -> Pictures:
        """Return the pictures in an order that is random, but the same wherever they lie."""
        places = sorted(range(len(self)), key=lambda place: self.facts[place].digest)
        numbers = [self.numbers[place] for place in places]
        return Pictures(self.encoded, numbers, [self.facts[place] for place in places])

    def take(self, rows: np.ndarray) -> list[Any]:
        """Return the pixels of rows. Raises GenaxError, naming one that is damaged."""
        return [self.pixels(row) for row in rows.tolist()]

    def pixels(self, row: int) -> np.ndarray:
        """Return one picture. Raises DamagedPictureError, naming it."""
        number = self.numbers[row]
        try:
            with self.encoded.open(number) as file:
                return decoded(file, self.field.channels)
        except Exception as error:  # Pillow's readers raise many kinds
            raise DamagedPictureError(self.encoded.place(number), _reason(error)) from error

    def digests(self) -> Sequence[bytes]:
        """Return a hash of the content of each file."""
        return [bytes.fromhex(facts.digest) for facts in self.facts]

    @cached_property
    def says(self) -> tuple[str, ...]:
        """Return what is converted, a line for all, and the sizes that there are."""
        counts = Counter(note for facts in self.facts for note in facts.notes)
        if self.field.channels == 3:
            counts["in grey, as colour"] = sum(facts.grey for facts in self.facts)
        found = ", ".join(f"{count} {note}" for note, count in counts.items() if count)
        sides = [(facts.width, facts.height) for facts in self.facts]
        says = [f"converted: {found}"] if found else []
        if len(set(sides)) > 1:
            least, most = (
                "x".join(str(end(side[axis] for side in sides)) for axis in (0, 1))
                for end in (min, max)
            )
            says.append(f"sizes from {least} to {most} (width x height)")
        return tuple(says)


class DamagedPictureError(GenaxError):
    """A picture that cannot be decoded."""

    def __init__(self, place: str, reason: str):
        self.place, self.reason = place, reason
        super().__init__(
            f"{place} cannot be read ({reason}); repair or remove it, or leave it out with "
            "config.damaged=skip."
        )


def pictures(encoded: Encoded, damaged: Damaged, folder: Path | None = None) -> Pictures:
    """Return the pictures that can be read.

    folder: where the files are, by which the facts are kept for the next opening; None keeps
      nothing.
    """
    stamps = [encoded.stamp(number) for number in range(len(encoded))]
    total = sum(size for size, _ in stamps)
    decode, large = total <= _DECODED, total > _HASHED
    cache = _cache(folder) if folder is not None and len(encoded) >= _KEPT else None
    key = [_VERSION, decode, large]
    known = _known(cache, key)
    kept, numbers, facts, new = {}, [], [], False
    for number, stamp in enumerate(stamps):
        place = encoded.place(number)
        found = known.get(place)
        if found is None or tuple(found[:2]) != stamp:
            with encoded.open(number) as file:
                found = [*stamp, *look(file, stamp[0], decode, large)]
            new = True
        kept[place], fact = found, Facts(*found[2:])
        if fact.damage:
            damaged.add(place, fact.damage)
        else:
            numbers.append(number)
            facts.append(fact)
    if cache is not None and new:
        _keep(cache, key, kept)
    return Pictures(encoded, numbers, facts)


def _cache(folder: Path) -> Path:
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]
    return cache_folder() / "own" / f"{key}.json"


def _known(cache: Path | None, key: list[Any]) -> dict[str, list[Any]]:
    """Return the stamp and facts of each picture at an earlier opening."""
    try:
        found = json.loads(cache.read_text()) if cache is not None else {}
        return found["facts"] if found["key"] == key else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _keep(cache: Path, key: list[Any], facts: dict[str, list[Any]]) -> None:
    # What cannot be kept is found again.
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({"key": key, "facts": facts}, allow_nan=False))
        partial.replace(cache)
