"""Emoji in two styles each, read from packages made here."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from genax.core.data import Shard
from genax.data import ImageData
from genax.data.sets.emoji import on_white
from genax.data.sets.packages import archive_name
from genax.data.sets.prepare import prepare_set
from tests.data import fakes

CODES = [f"1F{number:03X}" for number in range(60)]
# Stands for `resvg_py`: a drawing is its file, in the size that is asked for.
RESVG = """
import io
from PIL import Image
def svg_to_bytes(svg_path, width, height, skip_system_fonts):
    assert skip_system_fonts
    shade = int(open(svg_path).read())
    content = io.BytesIO()
    Image.new("RGBA", (width, height), (shade, 0, 0, 255)).save(content, "png")
    return content.getvalue()
"""


@pytest.fixture
def resvg(tmp_path, monkeypatch):
    folder = tmp_path / "python"
    folder.mkdir()
    (folder / "resvg_py.py").write_text(RESVG)
    monkeypatch.syspath_prepend(str(folder))
    kept = sys.modules.pop("resvg_py", None)
    yield
    sys.modules.pop("resvg_py", None)
    if kept is not None:
        sys.modules["resvg_py"] = kept


def openmoji_archive(folder):
    names = [*CODES, *(f"{code}-200D-2642" for code in CODES)]
    facts = [{"hexcode": name, "group": "objects", "skintone": ""} for name in names]
    tone = {"hexcode": f"{CODES[0]}-1F3FB", "group": "objects", "skintone": 1}
    files = {"package/data/openmoji.json": json.dumps([*facts, tone]).encode()}
    for number, fact in enumerate(facts):
        for style, shade in (("color", 2 * number), ("black", 2 * number + 1)):
            files[f"package/{style}/svg/{fact['hexcode']}.svg"] = str(shade).encode()
    return fakes.tar_of(folder / "openmoji-17.0.0.tgz", files)


def test_drawings_are_pairs_and_variants_of_an_emoji_are_in_one_split(cache, tmp_path, resvg):
    archive = openmoji_archive(tmp_path)
    prepare_set(fakes.like("openmoji", {"train": 110, "test": 10}, archive), [archive])
    sizes, firsts = {}, {}
    for split in ("train", "test"):
        data = ImageData("openmoji", split, image="colour", source="line_art", range=(0, 255))
        (batch,) = data.evaluate(sizes.setdefault(split, data.num_examples), Shard())
        colour, line_art = (np.rint(batch[name][:, 0, 0, 0]) for name in ("image", "source"))
        np.testing.assert_array_equal(line_art, colour + 1)
        firsts[split] = sorted((colour / 2 % len(CODES)).tolist())
        assert batch["image"].shape[1:] == (128, 128, 3)
        assert set(batch["label"].tolist()) == {7}
    assert sizes == {"train": 110, "test": 10}
    assert not {*firsts["train"]} & {*firsts["test"]}
    assert all(firsts[split][::2] == firsts[split][1::2] for split in firsts)


def png(array):
    content = io.BytesIO()
    Image.fromarray(array).save(content, "png")
    return content.getvalue()


def styles_archives(folder):
    sheet = np.zeros((34 * 8, 34 * 8, 4), np.uint8)
    facts, renders = [], {}
    for number, code in enumerate(CODES):
        x, y = divmod(number, 8)
        sheet[34 * y + 1 : 34 * y + 33, 34 * x + 1 : 34 * x + 33] = (number, 0, 0, 255)
        place = {"sheet_x": x, "sheet_y": y, "sort_order": number, "unified": code}
        about = {"image": f"{code.lower()}.png", "category": "Objects"}
        facts.append({**place, **about, "has_img_twitter": number != 3})
        if number != 5:
            picture = Image.new("RGBA", (64, 64), (number, 255, 0, 255))
            picture.save(content := io.BytesIO(), "webp", lossless=True)
            renders[f"package/assets/{code.lower()}.webp"] = content.getvalue()
    files = {
        "package/emoji.json": json.dumps(facts[::-1]).encode(),
        "package/img/twitter/sheets/32.png": png(sheet),
    }
    return [
        fakes.tar_of(folder / "emoji-datasource-16.0.0.tgz", files),
        fakes.tar_of(folder / "lobehub-fluent-emoji-3d-1.1.0.tgz", renders),
    ]


def test_styles_are_the_emoji_that_both_have(cache, tmp_path):
    archives = styles_archives(tmp_path)
    known = fakes.like("emoji_styles", {"train": 53, "test": 5}, *archives)
    assert [archive_name(package) for package in known.packages] == [a.name for a in archives]
    prepare_set(known, archives)
    seen = []
    for split in ("train", "test"):
        data = ImageData("emoji_styles", split, image="fluent", source="twitter", range=(0, 255))
        (batch,) = data.evaluate(data.num_examples, Shard())
        numbers = np.rint(batch["image"][:, 3, 3, 0])
        expected = np.broadcast_to(numbers[:, None, None], batch["source"].shape[:3])
        np.testing.assert_array_equal(np.rint(batch["source"][..., 0]), expected)
        assert (numbers == np.sort(numbers)).all()
        seen += numbers.tolist()
    assert sorted(seen) == [number for number in range(60) if number not in (3, 5)]


def test_a_transparent_picture_is_laid_on_white():
    picture = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 51]]], np.uint8)
    expected = [[[255, 255, 255], [10, 20, 30], [204, 204, 204]]]
    np.testing.assert_array_equal(on_white(Image.fromarray(picture)), expected)
