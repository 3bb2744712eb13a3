"""Arrays by name, and what `datasets` saves."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from genax.core.data import Shard
from genax.core.errors import GenaxError
from genax.data import ImageData
from genax.data.fields import Label, Labels, Text, Texts
from genax.data.own import forms, hugging_face
from genax.data.sets.named import open_set

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 5, 4), np.uint8)
LABELS = np.arange(40) % 3


def images_of(name, **settings):
    data = ImageData(name, **{"range": (0, 255), "split": "all"} | settings)
    (batch,) = data.evaluate(data.num_examples, Shard())
    return np.rint(batch["image"]).astype(np.uint8), batch["label"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_a_file(save, tmp_path):
    save(tmp_path / "a.npz", image=IMAGES, label=LABELS)
    images, labels = images_of(f"npz:{tmp_path / 'a.npz'}")
    np.testing.assert_array_equal(np.sort(labels), np.sort(LABELS))
    # A split by content: train, validation, test.
    assert {image.tobytes() for image in images} == {image.tobytes() for image in IMAGES}
    assert images.shape == (40, 5, 4, 1)


def test_arrays_that_name_their_split(tmp_path):
    path = tmp_path / "mnist.npz"
    parts = {"x_train": IMAGES[:30], "y_train": LABELS[:30], "x_test": IMAGES[30:]}
    np.savez(path, **parts, y_test=LABELS[30:])
    name = f"npz:{path}"
    assert open_set(name).splits == ("train", "test")
    images, labels = images_of(name, split="test")
    np.testing.assert_array_equal(images[..., 0], IMAGES[30:])
    np.testing.assert_array_equal(labels, LABELS[30:])
    np.savez(path, **parts, y_test=LABELS[31:])
    with pytest.raises(GenaxError, match=r"test of the lengths .'image': 10, 'label': 9"):
        images_of(name)


def test_pixels_from_0_to_1_and_those_that_are_none(tmp_path):
    np.savez(tmp_path / "a.npz", image=IMAGES / 255, label=LABELS)
    images, _ = images_of(f"npz:{tmp_path / 'a.npz'}")
    assert {image.tobytes() for image in images} == {image.tobytes() for image in IMAGES}
    np.savez(tmp_path / "b.npz", image=IMAGES.astype(np.int64), label=LABELS)
    with pytest.raises(GenaxError, match=r"no feature that is a uint8 image; it has image .int64"):
        images_of(f"npz:{tmp_path / 'b.npz'}")
    (tmp_path / "c.npz").write_bytes(b"no archive")
    with pytest.raises(GenaxError, match=r"c.npz cannot be read as arrays"):
        images_of(f"npz:{tmp_path / 'c.npz'}")


@pytest.fixture
def saved(tmp_path):
    """Two splits, as `datasets` writes them."""
    pa = pytest.importorskip("pyarrow")

    def png(array):
        file = io.BytesIO()
        Image.fromarray(array).save(file, "png")
        return {"bytes": file.getvalue(), "path": None}

    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["no", "yes", "so"], "_type": "ClassLabel"},
        "answers": {"text": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}},
        "tags": {"feature": {"names": ["O", "B"], "_type": "ClassLabel"}, "_type": "List"},
    }
    rows = [
        {
            "image": png(image),
            "label": int(label),
            "answers": {"text": ["a", "b"]},
            "tags": [0, 1],
            "text": f"text {number}",
        }
        for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True))
    ]
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    for split, part in (("train", rows[:30]), ("test", rows[30:])):
        (tmp_path / "saved" / split).mkdir(parents=True)
        table = pa.Table.from_pylist(part).replace_schema_metadata(metadata)
        path = tmp_path / "saved" / split / "data-00000-of-00001.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
        import pyarrow.parquet as pq

        (tmp_path / "parquet").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "parquet" / f"{split}-00000-of-00001.parquet")
    return tmp_path


@pytest.mark.parametrize("kind", ["saved", "parquet"])
@pytest.mark.parametrize("large", [0, 64 << 20])
def test_what_datasets_saves(saved, kind, large, monkeypatch):
    monkeypatch.setattr(hugging_face, "_LARGE", large)
    forms._table.cache_clear()
    name = f"hf:{saved / kind}"
    found = open_set(name)
    assert found.splits == ("train", "test")
    assert found.fields["label"] == Label(3, ("no", "yes", "so"))
    assert found.fields["tags"] == Labels(2, ("O", "B"))
    assert found.fields["text"] == Text()
    assert found.fields["answers/text"] == Texts()
    images, labels = images_of(name, split="test")
    np.testing.assert_array_equal(images[..., 0], IMAGES[30:])
    np.testing.assert_array_equal(labels, LABELS[30:])
    records = found.records("train[:3]", {"tags": found.fields["tags"]})
    assert records.read(np.array([2]))["tags"].tolist() == [(0, 1)]
    assert any("label: 3 classes, 0 no, 1 yes, 2 so" in line for line in found.says)
    assert ImageData(name).fingerprint() != ImageData(name, split="test").fingerprint()


def test_rows_of_a_saved_set_that_are_damaged(saved):
    pa = pytest.importorskip("pyarrow")
    path = saved / "saved/test/data-00000-of-00001.arrow"
    table = pa.ipc.open_stream(path.read_bytes()).read_all()
    rows = table.to_pylist()
    rows[2]["image"]["bytes"] = b"none"
    rows[5]["text"] = None
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, table.schema))
    name = f"hf:{saved / 'saved'}"
    with pytest.raises(GenaxError, match=r"image 2 of hf:.* cannot be read .*, and 1 more; repair"):
        open_set(name).fields  # noqa: B018
    images, labels = images_of(name, split="test", damaged="skip")
    kept = [0, 1, 3, 4, 6, 7, 8, 9]
    np.testing.assert_array_equal(images[..., 0], IMAGES[30:][kept])
    np.testing.assert_array_equal(labels, LABELS[30:][kept])


def test_a_missing_package_and_a_folder_without_files(saved, monkeypatch):
    with pytest.raises(GenaxError, match=r"holds no .arrow and no .parquet file"):
        open_set(f"hf:{(saved / 'nothing').mkdir() or saved / 'nothing'}").fields  # noqa: B018
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    forms._table.cache_clear()
    with pytest.raises(GenaxError, match=r"needs pyarrow; run: pip install 'genax\[hf\]'"):
        open_set(f"hf:{saved / 'saved'}").fields  # noqa: B018
