"""Readers of packages of emoji: pairs of pictures, of one emoji in two styles each.

Emoji that begin with the same code point, such as those of a woman, are all in one split, since
many differ in little. A tenth of the code points is held out, by a hash. Emoji that differ in the
tone of their skin alone are left out. Transparent pictures are laid on white.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Examples = Mapping[str, Sequence[Mapping[str, Any]]]

OPENMOJI_SIDE, STYLES_SIDE = 128, 32
OPENMOJI_GROUPS = (
    *("activities", "animals-nature", "component", "extras-openmoji", "extras-unicode", "flags"),
    *("food-drink", "objects", "people-body", "smileys-emotion", "symbols", "travel-places"),
)
STYLES_GROUPS = (
    *("Activities", "Animals & Nature", "Flags", "Food & Drink", "Objects", "People & Body"),
    *("Smileys & Emotion", "Symbols", "Travel & Places"),
)


def read_openmoji(folder: Path) -> Examples:
    """Draw the vector graphics of OpenMoji: line art and colour, with their groups."""
    from resvg_py import svg_to_bytes

    def drawn(path: Path) -> np.ndarray:
        content = svg_to_bytes(
            svg_path=str(path), width=OPENMOJI_SIDE, height=OPENMOJI_SIDE, skip_system_fonts=True
        )
        return on_white(Image.open(io.BytesIO(content)))

    package = folder / "openmoji" / "package"
    facts = json.loads((package / "data" / "openmoji.json").read_text())
    return _split(
        (
            fact["hexcode"],
            {
                "colour": drawn(package / "color" / "svg" / f"{fact['hexcode']}.svg"),
                "line_art": drawn(package / "black" / "svg" / f"{fact['hexcode']}.svg"),
                "label": OPENMOJI_GROUPS.index(fact["group"]),
            },
        )
        for fact in facts
        if not fact["skintone"]
    )


def read_emoji_styles(folder: Path) -> Examples:
    """Read the emoji that Twemoji's sheet and Fluent's renders share, with their categories."""
    sheets = folder / "emoji-datasource" / "package"
    renders = folder / "@lobehub" / "fluent-emoji-3d" / "package" / "assets"
    with Image.open(sheets / "img" / "twitter" / "sheets" / "32.png") as picture:
        sheet = on_white(picture)

    def cell(fact: Mapping[str, Any]) -> np.ndarray:
        # A pixel of margin is around every cell.
        top, left = (fact[f"sheet_{axis}"] * (STYLES_SIDE + 2) + 1 for axis in "yx")
        return sheet[top : top + STYLES_SIDE, left : left + STYLES_SIDE]

    def rendered(path: Path) -> np.ndarray:
        with Image.open(path) as picture:
            large = Image.fromarray(on_white(picture))
        return np.asarray(large.resize((STYLES_SIDE, STYLES_SIDE), Image.Resampling.BICUBIC))

    facts = json.loads((sheets / "emoji.json").read_text())
    found = [
        (fact, renders / fact["image"].replace(".png", ".webp"))
        for fact in sorted(facts, key=lambda fact: fact["sort_order"])
        if fact["has_img_twitter"]
    ]
    return _split(
        (
            fact["unified"],
            {
                "fluent": rendered(path),
                "twitter": cell(fact),
                "label": STYLES_GROUPS.index(fact["category"]),
            },
        )
        for fact, path in found
        if path.exists()
    )


def on_white(picture: Image.Image) -> np.ndarray:
    """Return a picture as uint8 [h, w, 3], laid on white where it is transparent."""
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(white, picture).convert("RGB"))


def _split(examples: Iterable[tuple[str, Mapping[str, Any]]]) -> Examples:
    splits: dict[str, list[Mapping[str, Any]]] = {"train": [], "test": []}
    for code, example in examples:
        first = code.split("-")[0].encode()
        held_out = int.from_bytes(hashlib.sha256(first).digest(), "big") % 10 == 0
        splits["test" if held_out else "train"].append(example)
    return splits
