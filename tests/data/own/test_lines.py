"""Rows of CSV and JSON lines, and texts: what becomes of columns, and which lines are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from genax.core.data import Shard
from genax.core.errors import GenaxError
from genax.data import ImageData, TextData
from genax.data.sets.named import open_set
from genax.data.text.answer_spans import AnswerSpans
from genax.data.text.classified_text import ClassifiedText
from genax.data.text.corpora import load_corpus
from genax.data.text.scored_text import ScoredText
from genax.data.text.sentence_pairs import SentencePairs
from genax.data.text.tagged_text import TaggedText
from genax.data.text.text_pairs import TextPairs

KINDS = ("bad", "fine", "good")


def write_rows(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return f"jsonl:{path}"


@pytest.fixture
def reviews(tmp_path):
    lines = [f'"It was {KINDS[n % 3]}, film {n}",{KINDS[n % 3]},{n / 4}' for n in range(90)]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label,stars", *lines]))
    return f"csv:{tmp_path / 'reviews.csv'}"


def test_columns_of_a_csv(reviews):
    data = ClassifiedText(reviews, 12, 200, classes=3)
    batch = next(data.train(8, 0, Shard()))
    assert batch["tokens"].shape == (8, 12)
    for example in data.examples:
        assert KINDS[example["label"]] in example["text"]
    assert any("label: 3 classes, 0 bad, 1 fine, 2 good" in line for line in data.says)
    assert len(ClassifiedText(reviews, 12, 200, split="test").examples) > 0
    with pytest.raises(GenaxError, match=r"3 classes of label .* set config.num_labels=3"):
        ClassifiedText(reviews, 12, 200, classes=2).fingerprint()
    scored = ScoredText(reviews, 12, 200, label="stars")
    assert next(scored.train(8, 0, Shard()))["label"].dtype == np.float32
    # A class by another name.
    assert open_set(reviews, classes=("stars",)).fields["stars"].dtype == np.float32


def test_other_separators_and_endings(tmp_path):
    for name, text in {"a.tsv": "text\tlabel\na, b\t1\n", "b.csv": "text;label\na, b;1\n"}.items():
        (tmp_path / name).write_text(text)
        (row,) = open_set(f"csv:{tmp_path / name}").examples("train")
        assert row == {"text": "a, b", "label": 1}


def test_files_of_a_folder_are_splits(tmp_path):
    for split, count in (("train", 5), ("dev", 2)):
        write_rows(
            tmp_path / f"{split}.jsonl", [{"text": str(n), "label": n} for n in range(count)]
        )
    found = open_set(f"jsonl:{tmp_path}")
    assert found.splits == ("train", "validation")
    assert len(found.examples("train")) == 5
    assert len(found.examples("test")) == len(found.examples("validation")) == 2


def test_tagged_and_paired_and_answered(tmp_path):
    rows = [{"words": ["Ada", "ran", str(n)], "labels": ["B-PER", "O", "O"]} for n in range(50)]
    tagged = TaggedText(write_rows(tmp_path / "tags.jsonl", rows), 12, 200)
    assert tagged.examples[0]["labels"] == (0, 1, 1)
    assert set(np.unique(next(tagged.train(4, 0, Shard()))["labels"])) == {-1, 0, 1}
    rows = [{"de": f"Rose {n}", "en": f"rose {n}"} for n in range(50)]
    pairs = TextPairs(write_rows(tmp_path / "pairs.jsonl", rows), 8, 300, source="de", target="en")
    assert next(pairs.train(4, 0, Shard()))["target"].shape == (4, 9)
    rows = [
        {
            "question": "who?",
            "context": f"it was Ada {n}",
            "answers": {"text": ["Ada"], "answer_start": [7]},
        }
        for n in range(50)
    ]
    answers = AnswerSpans(write_rows(tmp_path / "answers.jsonl", rows), 24, 200)
    batch = next(answers.train(4, 0, Shard()))
    assert (batch["end"] >= batch["start"]).all()
    assert (batch["start"] > 0).all()


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ('{"text": "a", "label": 1}\n{"text": \n', "line 2 cannot be read .it is no JSON"),
        ('{"text": "a", "label": 1}\n{"text": "b", "label": NaN}\n', "it is no JSON: NaN is no n"),
        ('{"text": "a", "label": 1}\n[1]\n', "line 2 cannot be read .it is no JSON object"),
        ('{"text": "a", "label": 1}\n{"text": "b"}\n', "line 2 cannot be read .it has no 'label'"),
    ],
)
def test_damaged_lines_are_named_or_left_out(lines, reason, tmp_path):
    (tmp_path / "a.jsonl").write_text(lines)
    with pytest.raises(GenaxError, match=reason):
        open_set(f"jsonl:{tmp_path / 'a.jsonl'}").fields  # noqa: B018
    left = open_set(f"jsonl:{tmp_path / 'a.jsonl'}", "skip")
    assert list(left.examples("train")) == [{"text": "a", "label": 1}]
    assert any("left out as damaged: 1 (" in line for line in left.says)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("text,label\na,1\nb\n", "line 3 cannot be read .it has 1 cells under 2 names"),
        ("text,label\na,1\nb,\n", "line 3 cannot be read .it has no 'label'"),
        ("text,text\na,1\n", "its first line names the columns, each differently"),
        ("", "holds no rows that can be read"),
    ],
)
def test_rows_that_are_none(text, reason, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(GenaxError, match=reason):
        open_set(f"csv:{tmp_path / 'a.csv'}").fields  # noqa: B018


def test_a_text_file_is_cut_by_position(tmp_path):
    (tmp_path / "my.txt").write_bytes(b"\xef\xbb\xbf" + b"0123456789" * 30)
    name = f"text:{tmp_path / 'my.txt'}"
    corpus = load_corpus(name)
    assert {split: sum(map(len, texts)) for split, texts in corpus.items()} == {
        "train": 270,
        "validation": 30,
    }
    data = TextData(name, context=4, vocab_size=10)
    assert next(data.train(2, 0, Shard()))["tokens"].shape == (2, 5)
    moved = (tmp_path / "my.txt").rename(tmp_path / "yours.txt")
    assert TextData(f"text:{moved}", context=4, vocab_size=10).fingerprint() == data.fingerprint()
    with pytest.raises(GenaxError, match=r"vocab_size=9 holds; set config.vocab_size to 10"):
        TextData(f"text:{moved}", context=4, vocab_size=9).fingerprint()
    with pytest.raises(GenaxError, match=r"validation split of .* has 30 tokens, too few for"):
        TextData(f"text:{moved}", context=30, vocab_size=10, split="validation").fingerprint()


def test_a_single_document_is_cut_for_pairs_of_sentences(tmp_path):
    lines = [f"this is line {number} of it.\n" for number in range(400)]
    (tmp_path / "my.txt").write_text("".join(lines))
    for split in ("train", "validation"):
        pairs = SentencePairs(f"text:{tmp_path / 'my.txt'}", 24, 200, split=split)
        assert pairs.fingerprint()
        assert len(pairs._documents) == 10
        assert set(next(pairs.train(32, 0, Shard()))["follows"]) == {0, 1}
    (tmp_path / "my.txt").write_text("short")
    with pytest.raises(GenaxError, match=r"split 'train' of .* fewer than two documents"):
        SentencePairs(f"text:{tmp_path / 'my.txt'}", 24, 200).fingerprint()


def test_a_folder_of_texts(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"text {number}\n")
    (tmp_path / "3.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(GenaxError, match=r"3.txt cannot be read .* no text in UTF-8"):
        load_corpus(f"text:{tmp_path}")
    assert load_corpus(f"text:{tmp_path}", "skip")["train"][:2] == ["text 0\n", "text 1\n"]


def test_documents_of_rows(tmp_path):
    name = write_rows(tmp_path / "a.jsonl", [{"text": f"{n} and more"} for n in range(60)])
    assert load_corpus(name).keys() == {"train", "validation", "test"}
    with pytest.raises(GenaxError, match="has no feature that is a uint8 image; it has text"):
        ImageData(name).element  # noqa: B018


def test_unknown_names_are_answered_with_the_forms():
    with pytest.raises(GenaxError, match=r"no data set 'nope'; .* folder:PATH, .*csv:PATH"):
        open_set("nope")
