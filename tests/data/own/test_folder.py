"""Pictures in a folder: sizes, modes, classes, captions, splits, damage, fingerprints."""

from __future__ import annotations

import io
import json
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genax.core.data import Shard
from genax.core.errors import GenaxError
from genax.data import ImageData
from genax.data.own import forms
from genax.data.own import pictures as pictures_module
from tests.data.own.conftest import colours


def data_of(folder, **settings):
    return ImageData(f"folder:{folder}", **{"size": 8, "range": (0, 255)} | settings)


def only(folder, **settings):
    """The one picture of a folder, as it is read."""
    (batch,) = data_of(folder, **{"size": None} | settings).evaluate(1, Shard())
    return np.rint(batch["image"][0]).astype(np.uint8)


def test_subfolders_are_classes_and_sizes_differ(pictures):
    data = data_of(pictures)
    assert data.element["image"].shape == (8, 8, 3)
    assert data.num_classes == 2
    batch = next(data.train(16, 0, Shard()))
    blue = batch["image"][..., 2].mean((1, 2))
    numbers = np.rint(blue / 4).astype(int)
    np.testing.assert_array_equal(batch["label"], numbers % 2)
    assert any("label: 2 classes, 0 cats, 1 dogs" in line for line in data.says)
    assert any("sizes from 8x8 to 16x16" in line for line in data.says)
    with pytest.raises(
        GenaxError, match=r"differ in size: choose one with size=, in .*config.size"
    ):
        data_of(pictures, size=None).element  # noqa: B018


def test_splits_are_disjoint_whole_and_stay_when_pictures_come(pictures):
    def content(split):
        data = data_of(pictures, split=split)
        batches = data.evaluate(10, Shard())
        found = [batch["image"][batch["mask"] > 0] for batch in batches]
        return {image.tobytes() for image in np.concatenate(found)}

    splits = [content(split) for split in ("train", "validation", "test")]
    assert all(splits)
    assert sum(map(len, splits)) == len(set.union(*splits)) == 60
    assert len(content("train[:10]")) == 10
    (batch,) = data_of(pictures, split="train[:20]").evaluate(20, Shard())
    assert 4 < batch["label"].sum() < 16
    # As many as can be told of 60: the rule is the content's, not the order's.
    shutil.copy(pictures / "cats/00.png", pictures / "cats/zz.png")
    assert [content(split) for split in ("train", "validation", "test")] == splits
    with pytest.raises(GenaxError, match="has no split 'dev'; it has train, validation, test"):
        content("dev")


def test_folders_that_are_splits(pictures, tmp_path):
    root = tmp_path / "split"
    shutil.copytree(pictures, root / "train")
    shutil.copytree(pictures / "cats", root / "val" / "cats")
    assert data_of(root).num_examples == 60
    assert data_of(root, split="validation").num_examples == 30
    # The only split that is held out answers to both names.
    assert data_of(root, split="test[:7]").num_examples == 7
    assert data_of(root).num_classes == 2


@pytest.mark.parametrize("memory", [0, 1 << 27])
def test_any_mode_becomes_eight_bits_and_opaque(tmp_path, memory, monkeypatch):
    monkeypatch.setattr("genax.data.sets.own_sets._KEPT", memory)
    colour = colours(6, 4, 80)
    deep = (np.arange(24, dtype=np.uint16) * 2570).reshape(4, 6)
    ghost = np.dstack([colour, np.zeros((4, 6), np.uint8)])
    turned = Image.Exif()
    turned[0x0112] = 6
    made = {
        "colour": (Image.fromarray(colour), colour),
        "ghost": (Image.fromarray(ghost), np.full((4, 6, 3), 255)),
        "deep": (Image.fromarray(deep), (np.arange(24) * 10).reshape(4, 6, 1)),
        "grey": (Image.fromarray(colour[..., 0]), colour[..., :1]),
        "flat": (Image.new("P", (6, 4)), np.zeros((4, 6, 3))),
        "turned": (Image.fromarray(colour), np.rot90(colour, -1)),
    }
    for name, (image, expected) in made.items():
        folder = tmp_path / name
        folder.mkdir()
        image.save(folder / "a.png", **({"exif": turned} if name == "turned" else {}))
        np.testing.assert_array_equal(only(folder), expected, name)
        (tmp_path / "all" / name).mkdir(parents=True)
        shutil.copy(folder / "a.png", tmp_path / "all" / name)
    data = data_of(tmp_path / "all", size=4)
    assert data.element["image"].shape == (4, 4, 3)
    (said,) = [line for line in data.says if "converted" in line]
    for part in (
        "1 with transparency",
        "1 of 16 bits",
        "1 with a palette",
        "1 turned",
        "2 in grey",
    ):
        assert part in said


def test_captions_beside_pictures_and_in_a_listing(pictures):
    (pictures / "cats/00.txt").write_text("a cat \N{SNOWMAN}\n", encoding="utf-8")
    lines = [{"file_name": "dogs/01.png", "caption": "a dog"}]
    (pictures / "captions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    data = data_of(pictures, caption="caption", split="all")
    (batch,) = data.evaluate(60, Shard())
    captions = set(batch["caption"].tolist())
    assert captions == {"a cat \N{SNOWMAN}", "a dog", ""}
    assert any("58 of 60 pictures have no caption" in line for line in data.says)
    (pictures / "captions.jsonl").write_text('{"file_name": "dogs/99.png", "caption": "none"}\n')
    with pytest.raises(GenaxError, match=r"line 1: there is no picture dogs/99.png"):
        data_of(pictures).element  # noqa: B018


@pytest.mark.parametrize("checked", [0, 64 << 20])
def test_a_damaged_picture_is_named_or_left_out_and_counted(pictures, checked, monkeypatch):
    """At the opening, or in a large set when it is read."""
    monkeypatch.setattr(pictures_module, "_DECODED", checked)
    path = pictures / "dogs/05.png"
    path.write_bytes(path.read_bytes()[:60])
    data = data_of(pictures)
    with pytest.raises(GenaxError, match=r"dogs/05.png cannot be read .*config.damaged=skip"):
        list(data.evaluate(10, Shard()))
    left = data_of(pictures, damaged="skip", split="all")
    if checked:
        assert left.num_examples == 59
        assert any("left out as damaged: 1 (" in line for line in left.says)
        assert left.fingerprint()
    else:
        with pytest.warns(UserWarning, match=r"left out: .*dogs/05.png"):
            found = list(left.evaluate(10, Shard()))
        assert sum(len(batch["image"]) for batch in found) == 60
    with pytest.raises(GenaxError, match="damaged='drop' is none of refuse, skip"):
        data_of(pictures, damaged="drop").element  # noqa: B018


def test_the_fingerprint_is_the_contents(pictures, tmp_path):
    before = data_of(pictures).fingerprint()
    assert data_of(pictures).fingerprint() == before
    moved = tmp_path / "elsewhere"
    shutil.move(pictures, moved)
    assert data_of(moved).fingerprint() == before
    Image.fromarray(colours(9, 9, 7)).save(moved / "cats/00.png")
    assert data_of(moved, split="all").fingerprint() != before


def test_what_was_found_is_kept_until_a_file_changes(pictures, monkeypatch):
    monkeypatch.setattr(pictures_module, "_KEPT", 10)
    looked = []
    look = pictures_module.look
    monkeypatch.setattr(
        pictures_module, "look", lambda file, *how: looked.append(file.name) or look(file, *how)
    )
    prints = [data_of(pictures, split="all").fingerprint() for _ in range(2)]
    forms._table.cache_clear()
    prints += [data_of(pictures, split="all").fingerprint()]
    assert len(set(prints)) == 1
    assert len(looked) == 60
    Image.fromarray(colours(9, 9, 7)).save(pictures / "cats/00.png")
    assert data_of(pictures, split="all").fingerprint() != prints[0]
    assert looked[60:] == [str(pictures / "cats/00.png")]


def test_folders_that_hold_no_set(tmp_path, pictures):
    with pytest.raises(GenaxError, match=r"there is no .*nowhere; name what is there"):
        data_of(tmp_path / "nowhere").element  # noqa: B018
    (tmp_path / "empty").mkdir()
    with pytest.raises(GenaxError, match=r"holds no picture; it reads .png"):
        data_of(tmp_path / "empty").element  # noqa: B018
    shutil.copy(pictures / "cats/00.png", pictures)
    with pytest.raises(GenaxError, match="1 pictures beside the folders of classes cats, dogs"):
        data_of(pictures).element  # noqa: B018


def test_paths_from_here_and_from_home(pictures, monkeypatch):
    monkeypatch.chdir(pictures.parent)
    monkeypatch.setenv("HOME", str(pictures.parent))
    assert data_of("pictures").num_examples == data_of("~/pictures").num_examples == 50


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.long
def test_many_pictures_start_soon_and_memory_stays_flat(tmp_path, monkeypatch):
    """A fifth of what docs/data.md promises, so that it holds on busy machines."""
    monkeypatch.setattr("genax.data.sets.own_sets._KEPT", 0)
    for number in range(20_000):
        folder = tmp_path / str(number % 10)
        folder.mkdir(exist_ok=True)
        content = io.BytesIO()
        pixels = np.full((8, 8, 3), number % 256, np.uint8)
        pixels[0, 0] = [number // 65536, number // 256 % 256, number % 256]
        Image.fromarray(pixels).save(content, "png", compress_level=1)
        (folder / f"{number}.png").write_bytes(content.getvalue())
    began = time.process_time()
    data = data_of(tmp_path)
    assert data.fingerprint()
    batches = data.train(64, 0, Shard())
    next(batches)
    assert time.process_time() - began < 10
    for _ in range(100):
        next(batches)
    before = resident()
    for _ in range(500):
        next(batches)
    assert resident() - before < 32 << 20
