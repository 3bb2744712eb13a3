"""Slices of splits, of sets in memory and of prepared ones."""

from __future__ import annotations

import numpy as np
import pytest

from genax.core.data import Shard
from genax.core.errors import GenaxError
from genax.data import ImageData, TextData
from genax.data.sets.embedded import load_digits
from genax.data.sets.split_slices import Part, memory_parts, take_split
from genax.data.text import corpora as corpora_module
from genax.data.text.sentence_pairs import SentencePairs

RECORDS = {"train": list(range(40)), "test": list(range(100, 110))}


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", RECORDS["train"]),
        ("train[:3]", [0, 1, 2]),
        ("train[-2:]", [38, 39]),
        ("train[10%:20%]", [4, 5, 6, 7]),
        ("train[38:]+test[:1]", [38, 39, 100]),
        ("train[39:] + test", [39, *RECORDS["test"]]),
        ("all", RECORDS["train"] + RECORDS["test"]),
    ],
)
def test_slices_take_their_records(split, expected):
    assert take_split("set", split, RECORDS) == expected


WRONG = [
    ("train[100:200]", "goes beyond the records; train has 40, test has 10"),
    ("train[:50]", "goes beyond the records"),
    ("train[5:5]", "holds no record of train; train has 40"),
    ("train[50%:10%]", "holds no record of train"),
    ("train[:1%]", "holds no record of train"),
    ("train[:5]+test[3:2]", "holds no record of test"),
    ("train[abc]", "is neither a split nor a slice such as"),
    ("train[3]", "is neither a split nor a slice"),
    ("train[:200%]", "is neither a split nor a slice"),
    ("train[", "is neither a split nor a slice"),
    ("train[:2", "is neither a split nor a slice"),
    ("all[:2]", "no split 'all'"),
    ("dev", "no split 'dev'; it has train, test"),
    ("train+dev[:2]", "no split 'dev'"),
    ("", "no split ''"),
    ("train[:1shard]", "counts files"),
]


@pytest.mark.parametrize(("split", "message"), WRONG)
def test_what_is_no_slice_is_said(split, message):
    with pytest.raises(GenaxError, match=r"^set") as info:
        memory_parts("set", split, {"train": 40, "test": 10})
    assert message in str(info.value)


def test_a_split_is_one_part():
    assert memory_parts("set", "test", {"train": 40, "test": 10}) == [Part("test", 0, 10)]


@pytest.mark.parametrize("name", ["mnist", "tfds:mnist:1.0.0"])
def test_prepared_images(name, prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared.parents[1]))
    whole = next(iter(ImageData(name).evaluate(50, Shard())))["image"]
    (batch,) = ImageData(name, "train[10:20]").evaluate(10, Shard())
    np.testing.assert_array_equal(batch["image"], whole[10:20])
    assert ImageData(name, "train[:20%]+test").num_examples == 10 + 13
    for split in ("train[100:200]", "train[5:5]", "train[50%:10%]", "train[abc]", "dev"):
        with pytest.raises(GenaxError, match=f"^{name}"):
            ImageData(name, split).fingerprint()


def test_embedded_images():
    arrays = load_digits("train")
    (batch,) = ImageData("digits", "train[100:110]", range=(0, 255)).evaluate(10, Shard())
    np.testing.assert_allclose(batch["image"], arrays["image"][100:110], atol=1e-4)
    np.testing.assert_array_equal(batch["label"], arrays["label"][100:110])
    assert ImageData("digits", "train+test[:7]", size=4).num_examples == 1507
    with pytest.raises(GenaxError, match="goes beyond the records; train has 1,500, test has 297"):
        ImageData("digits", "test[:300]").fingerprint()
    first, second = (ImageData("digits", split) for split in ("train[:10]", "train[10:20]"))
    assert first.fingerprint() != second.fingerprint()


@pytest.fixture
def corpus(monkeypatch):
    documents = {
        "train": ["".join(f"d{d} s{s} end.\n" for s in range(30)) for d in range(10)],
        "validation": ["other words here.\n" * 9] * 2,
    }
    monkeypatch.setattr(corpora_module, "load_corpus", lambda name, *_: documents)
    return documents


def test_texts_take_the_slices_of_images(corpus):
    def windows(split):
        data = TextData("set", "bytes", 8, split=split)
        tokens = next(iter(data.evaluate(1000, Shard())))
        rows = tokens["tokens"][tokens["mask"] > 0]
        return "".join(bytes(row[:-1].astype(np.uint8)).decode() for row in rows)

    for split, documents in {
        "train[2:3]": corpus["train"][2:3],
        "train[80%:]": corpus["train"][8:],
        "train[:1]+validation[1:]": corpus["train"][:1] + corpus["validation"][1:],
    }.items():
        text = "".join(documents)
        found = windows(split)
        assert text.startswith(found)
        assert len(text) - len(found) <= 8
    for split in ("train[5:50]", "train[5:5]", "train[abc]", "dev"):
        with pytest.raises(GenaxError, match=r"^set"):
            TextData("set", "bytes", 8, split=split).fingerprint()


def test_a_tokenizer_is_made_of_the_whole_set(corpus):
    whole = TextData("set", "characters", 8).get_tokenizer()
    assert TextData("set", "characters", 8, split="train[:1]").get_tokenizer() == whole


def test_pairs_of_sentences_take_slices(corpus):
    tokenizer = SentencePairs("set", 40, 200).get_tokenizer()
    batch = next(SentencePairs("set", 40, 200, "train[3:5]").train(64, 0, Shard()))
    found = set(" ".join(tokenizer.decode_all(batch["tokens"])).split())
    assert {word for word in found if word.startswith("d")} == {"d3", "d4"}
    with pytest.raises(GenaxError, match="goes beyond the records"):
        SentencePairs("set", 40, 200, "train[3:50]").fingerprint()


def test_embedded_texts():
    assert len(TextData("stdlib", "bytes", 8, split="validation[:2]").fingerprint()) == 64
    with pytest.raises(GenaxError, match="stdlib: 'train\\[abc\\]' is neither"):
        TextData("stdlib", "bytes", 8, split="train[abc]").fingerprint()
