"""A new kind of data set: one entry in the catalogue and one reader, nothing else."""

from __future__ import annotations

import argparse
import hashlib
import json
from types import MappingProxyType

import numpy as np
import pytest

from genax.cli import data as verb
from genax.core.data import Shard, numeric
from genax.core.errors import GenaxError
from genax.data import ImageData
from genax.data.fields import Image, Real, Text, Texts
from genax.data.sets import catalogue
from genax.data.sets.catalogue import KnownSet, Package
from genax.data.sets.named import open_set
from genax.data.sets.prepare import prepare_set
from genax.data.text.examples import load_examples
from genax.data.text.text_pairs import TextPairs
from tests.data import fakes

CAPTIONS = ("a circle", "zwei Äpfel", "", "a \N{SNOWMAN}", "no more")


def read_captioned(folder):
    """The reader: pictures in one file, all else in another."""
    pixels = np.frombuffer(next(folder.rglob("pixels")).read_bytes(), np.uint8)
    facts = json.loads(next(folder.rglob("facts.json")).read_text())
    return {
        "train": [
            {"image": image, "caption": text, "beauty": beauty, "tags": tags}
            for image, (text, beauty, tags) in zip(pixels.reshape(-1, 4, 4, 3), facts, strict=True)
        ]
    }


def read_poems():
    """The reader of an embedded set."""
    poems = [{"en": f"rose {number}", "de": f"Rose {number}"} for number in range(9)]
    return {"train": poems[:7], "validation": poems[7:]}


def entries(archive):
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    captioned = KnownSet(
        name="captioned",
        about="coloured pictures with captions, a score and tags",
        cite="nobody",
        licence="CC0",
        counts={"train": 5},
        fields={
            "image": Image(4, 4, 3),
            "caption": Text(),
            "beauty": Real(),
            "tags": Texts(),
        },
        read=read_captioned,
        packages=(Package("npm", "captioned", "1.0.0", sha256, archive.stat().st_size),),
    )
    poems = KnownSet(
        name="poems",
        about="poems in two languages",
        cite="nobody",
        licence="CC0",
        counts={"train": 7, "validation": 2},
        fields={"en": Text(), "de": Text()},
        read=read_poems,
    )
    return captioned, poems


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8)


@pytest.fixture
def added(cache, tmp_path, pictures, monkeypatch):
    """The catalogue with two more entries, the packaged one prepared."""
    facts = [(text, 0.5 * number, ["x"] * number) for number, text in enumerate(CAPTIONS)]
    files = {"package/pixels": pictures.tobytes(), "package/facts.json": json.dumps(facts).encode()}
    archive = fakes.tar_of(tmp_path / "captioned-1.0.0.tgz", files)
    new = {known.name: known for known in entries(archive)}
    monkeypatch.setattr(catalogue, "KNOWN", MappingProxyType({**catalogue.KNOWN, **new}))
    prepare_set(new["captioned"], [archive])
    return new


def test_records_are_read_by_number(added, pictures):
    fields = open_set("captioned").fields
    batch = open_set("captioned").records("train", fields).read(np.array([3, 0]))
    np.testing.assert_array_equal(batch["image"], pictures[[3, 0]])
    assert batch["caption"].tolist() == [CAPTIONS[3], CAPTIONS[0]]
    assert batch["beauty"].tolist() == [1.5, 0.0]
    assert batch["beauty"].dtype == np.float32
    assert batch["tags"].tolist() == [("x", "x", "x"), ()]
    poems = open_set("poems").records("train[2:]+validation", open_set("poems").fields)
    assert len(poems) == 7
    assert poems.read(np.array([0, 6]))["de"].tolist() == ["Rose 2", "Rose 8"]


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_images_with_captions(added, pictures, memory, monkeypatch):
    monkeypatch.setattr("genax.data.sets.records._MEMORY", memory)
    data = ImageData("captioned", caption="caption", range=(0, 255))
    assert {name: spec.shape for name, spec in data.element.items()} == {"image": (4, 4, 3)}
    batch = next(data.train(4, 0, Shard()))
    assert batch["caption"].tolist() == [CAPTIONS[number] for number in batch["id"]]
    np.testing.assert_allclose(batch["image"], pictures[batch["id"]], atol=1e-4)
    assert set(numeric(batch)) == {"image"}
    plain = ImageData("captioned", range=(0, 255))
    assert "caption" not in next(plain.train(4, 0, Shard()))
    assert plain.fingerprint() != data.fingerprint()

    def shout(example, rng):
        return {**example, "caption": example["caption"].upper()}

    loud = next(ImageData("captioned", caption="caption", transform=shout).train(4, 0, Shard()))
    assert loud["caption"].tolist() == [text.upper() for text in batch["caption"]]


def test_captions_that_are_not_there(added):
    for name in ("mnist", "captioned"):
        with pytest.raises(GenaxError, match=f"{name} has no text 'label'; it has .*image .Image."):
            ImageData(name, caption="label").element  # noqa: B018
    with pytest.raises(
        GenaxError, match=r"has no 'label' that is a class .* caption .Text., image"
    ):
        ImageData("captioned", classes=3).element  # noqa: B018


def test_it_has_the_same_fields_by_the_name_of_tensorflow_datasets(added, cache, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(cache))
    fields = open_set("tfds:captioned:1.0.0").fields
    assert {name: fields[name] for name in ("image", "caption", "beauty")} == {
        name: added["captioned"].fields[name] for name in ("image", "caption", "beauty")
    }
    ours, theirs = (
        next(ImageData(name, caption="caption").train(4, 0, Shard()))
        for name in ("captioned", "tfds:captioned:1.0.0")
    )
    np.testing.assert_array_equal(ours["image"], theirs["image"])
    assert ours["caption"].tolist() == theirs["caption"].tolist()


def test_what_reads_texts_reads_it(added, tmp_path):
    assert load_examples("poems", "validation")[0] == {"en": "rose 7", "de": "Rose 7"}
    data = TextPairs("poems", 12, 300, source="en", target="de")
    assert next(data.train(4, 0, Shard()))["source"].shape == (4, 12)
    with pytest.raises(GenaxError, match="poems is a set of examples; use load_examples"):
        ImageData("poems").element  # noqa: B018
    with pytest.raises(GenaxError, match="captioned is a set of images; use ImageData"):
        load_examples("captioned", "train")


def test_it_is_listed(added, capsys):
    verb.run(argparse.Namespace(run=verb._list, json=True))
    listed = json.loads(capsys.readouterr().out)["sets"]
    found = {entry["name"]: entry for entry in listed if entry["name"] in added}
    assert found["captioned"]["prepared"]
    assert found["captioned"]["kind"] == "image"
    assert found["captioned"]["shape"] == [4, 4, 3]
    assert found["captioned"]["fields"]["tags"] == "tuple"
    assert found["poems"]["kind"] == "examples"


def test_every_entry_of_the_catalogue_says_what_its_reader_gives():
    for name in ("digits", "stdlib", "waves", "shapes", "carbon_chains"):
        known = catalogue.KNOWN[name]
        examples = known.read()
        assert {
            split: len(found) for split, found in examples.items()
        }.keys() == known.counts.keys()
        for found in examples.values():
            assert found[0].keys() == known.fields.keys()
            assert all(field.fits(found[0][key]) for key, field in known.fields.items())
