"""A new form of a user's own files: one reader and one line."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from genax.core.data import Shard
from genax.data import ImageData
from genax.data.fields import Image, Label
from genax.data.own import forms
from genax.data.own.table import Table, Values
from genax.data.sets.named import open_set


def read_bitmaps(files, damaged):
    """The reader: a picture of two colours a line of digits, "0110 1"."""
    images, labels = [], []
    for number, line in enumerate(files.path.read_text().splitlines(), 1):
        bits, _, label = line.partition(" ")
        if len(bits) == 4 and set(bits) <= {"0", "1"} and label.isdigit():
            images.append(255 * np.array([*map(int, bits)], np.uint8).reshape(2, 2, 1))
            labels.append(int(label))
        else:
            damaged.add(f"{files.path}, line {number}", "it is no bitmap")
    return Table({"image": Bits(Image(2, 2, 1), images), "label": Values(Label(2), labels)})


class Bits(Values):
    def digests(self):
        return [value.tobytes() for value in self.values]


def test_it_is_read_like_any_other(tmp_path, monkeypatch, capsys):
    added = forms.Form("lines of bits", read_bitmaps)
    monkeypatch.setattr(forms, "FORMS", MappingProxyType({**forms.FORMS, "bits": added}))
    lines = [f"{number:04b} {number % 2}" for number in range(16)]
    (tmp_path / "a").write_text("\n".join([*lines, "0120 1"]))
    data = ImageData(f"bits:{tmp_path / 'a'}", split="all", damaged="skip", range=(0, 1))
    assert data.element["image"].shape == (2, 2, 1)
    (batch,) = data.evaluate(16, Shard())
    bits = np.rint(batch["image"]).astype(int).reshape(16, 4) @ [8, 4, 2, 1]
    assert sorted(bits) == list(range(16))
    np.testing.assert_array_equal(batch["label"], bits % 2)
    assert any("left out as damaged: 1 (" in line for line in data.says)
    assert open_set(data.name, "skip").splits == ("train", "validation", "test")
