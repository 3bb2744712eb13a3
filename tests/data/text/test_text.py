from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tokenizers

from genax.core.data import Shard
from genax.core.errors import GenaxError
from genax.data import TextData, load_tokenizer
from genax.data.sets.embedded import load_stdlib
from genax.data.sets.tfds_fields import fields_of
from genax.data.text import corpora as corpora_module
from genax.data.text.corpora import load_corpus, split_by_position
from genax.data.text.sentence_pairs import SentencePairs
from genax.data.text.tokenizers import Subwords, save_tokenizer

DOCUMENTS = ["abcdefghij" * 30, "the quick brown fox jumps over the lazy dog. " * 10]


@pytest.fixture
def corpus(monkeypatch):
    splits = split_by_position(DOCUMENTS)
    monkeypatch.setattr(corpora_module, "load_corpus", lambda name, *_: splits)
    return splits


def test_split_by_position_cuts_a_document():
    splits = split_by_position(["aaaa", "bbbbbb"], fraction=0.5)
    assert splits == {"train": ["aaaa", "b"], "validation": ["bbbbb"]}


def test_windows_are_the_text_at_their_starts(corpus, tmp_path):
    data = TextData("fake", "characters", context=16, vocab_size=64)
    batch = next(data.opened(tmp_path).train(8, 0, Shard()))
    assert batch["tokens"].shape == (8, *data.element["tokens"].shape)
    assert batch["tokens"].dtype == data.element["tokens"].dtype == np.int32
    tokenizer, whole = load_tokenizer(tmp_path), "".join(corpus["train"])
    for tokens, start in zip(batch["tokens"], batch["id"], strict=True):
        assert tokenizer.decode(tokens) == whole[start : start + 17]


def test_every_start_comes_once_an_epoch(corpus):
    data = TextData("fake", "bytes", context=16)
    starts = len("".join(corpus["train"])) - 16
    iterator = data.train(1, 0, Shard())
    assert sorted(int(next(iterator)["id"][0]) for _ in range(starts)) == list(range(starts))


def test_shards_split_a_batch_of_windows(corpus):
    data = TextData("fake", "bytes", context=16)
    whole = data.train(8, 0, Shard())
    halves = [data.train(8, 0, Shard(n, 2)) for n in range(2)]
    for _ in range(5):
        parts = np.concatenate([next(half)["tokens"] for half in halves])
        np.testing.assert_array_equal(next(whole)["tokens"], parts)


def test_evaluation_windows_predict_every_token_once(corpus, tmp_path):
    data = TextData("fake", "bytes", context=8, split="validation")
    batches = list(data.opened(tmp_path).evaluate(4, Shard()))
    tokens = np.concatenate([batch["tokens"] for batch in batches])
    mask = np.concatenate([batch["mask"] for batch in batches])
    targets = tokens[mask == 1][:, 1:].reshape(-1)
    text = "".join(corpus["validation"]).encode()
    assert bytes(targets.astype(np.uint8)) == text[1 : len(targets) + 1]
    assert len(text) - 1 - len(targets) < 8
    assert batches[0]["id"].tolist() == [0, 8, 16, 24]
    limited = list(dataclasses.replace(data, limit=2).opened(tmp_path).evaluate(4, Shard()))
    assert [batch["mask"].tolist() for batch in limited] == [[1, 1, 0, 0]]


def test_tokenizer_is_saved_by_the_first_process_only_and_kept(corpus, tmp_path):
    data = TextData("fake", "bpe", context=8, vocab_size=270)
    data.opened(tmp_path).train(2, 0, Shard(1, 2))
    assert not (tmp_path / "tokenizer.json").exists()
    data.opened(tmp_path).train(2, 0, Shard(0, 2))
    saved = (tmp_path / "tokenizer.json").read_bytes()
    dataclasses.replace(data).opened(tmp_path).train(2, 0, Shard())
    assert (tmp_path / "tokenizer.json").read_bytes() == saved


def test_another_tokenizer_in_the_run_is_refused(corpus, tmp_path):
    TextData("fake", "bytes", context=8).opened(tmp_path).train(2, 0, Shard())
    with pytest.raises(GenaxError, match=r"kind 'bytes' but the experiment asks for 'characters'"):
        TextData("fake", "characters", context=8).opened(tmp_path).train(2, 0, Shard())
    assert load_tokenizer(tmp_path).kind == "bytes"


def test_a_tokenizer_larger_than_the_model_is_refused(corpus, tmp_path):
    with pytest.raises(GenaxError, match=r"number 27, more than vocab_size=20 holds"):
        TextData("fake", "characters", 8, vocab_size=20).opened(tmp_path).train(2, 0, Shard())
    assert not (tmp_path / "tokenizer.json").exists()


def test_fingerprint_follows_text_and_settings(corpus, monkeypatch):
    data = TextData("fake", "bytes", context=8)
    prints = {data.fingerprint(), dataclasses.replace(data, context=9).fingerprint()}
    prints.add(dataclasses.replace(data, split="validation").fingerprint())
    assert dataclasses.replace(data).fingerprint() in prints
    changed = split_by_position([DOCUMENTS[0].replace("a", "b", 1), DOCUMENTS[1]])
    monkeypatch.setattr(corpora_module, "load_corpus", lambda name, *_: changed)
    prints.add(dataclasses.replace(data).fingerprint())
    assert len(prints) == 4


@pytest.mark.parametrize("name", ["context", "vocab_size", "limit"])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_fields_out_of_their_ranges(name, value):
    with pytest.raises(GenaxError, match=f"TextData of fake: {name}={value} must be"):
        TextData("fake", **{name: value})
    with pytest.raises(GenaxError, match=f"SentencePairs of fake: {name}={value} must be"):
        SentencePairs("fake", **{"context": 40, "vocab_size": 99, name: value})


@pytest.mark.parametrize("documents", [[], [""]])
@pytest.mark.parametrize("kind", ["bytes", "characters", "bpe"])
def test_an_empty_corpus(documents, kind, monkeypatch):
    monkeypatch.setattr(corpora_module, "load_corpus", lambda name, *_: {"train": documents})
    data = TextData("fake", kind, context=8, vocab_size=300)
    with pytest.raises(GenaxError, match=r"empty|holds no record|has 0 tokens"):
        data.train(2, 0, Shard())


def test_a_tokenizer_needs_a_training_split(monkeypatch):
    monkeypatch.setattr(corpora_module, "load_corpus", lambda name, *_: {"test": DOCUMENTS})
    for data in (
        TextData("fake", "characters", context=8, split="test"),
        TextData("fake", "bpe", context=8, vocab_size=300, split="test"),
        SentencePairs("fake", 40, 200, "test"),
    ):
        with pytest.raises(GenaxError, match='no split "train", on which a tokenizer is trained'):
            data.get_tokenizer()
    assert len(list(TextData("fake", "bytes", 8, split="test").evaluate(1000, Shard()))) == 1


def test_a_feature_text_that_is_no_text(prepared, monkeypatch):
    def check(feature):
        fake = SimpleNamespace(fields=fields_of({"text": feature}), catalogued=False, splits=())
        monkeypatch.setattr(corpora_module, "open_set", lambda name, damaged: fake)
        corpora_module.load_corpus("tfds:fake")

    check(tfds.features.Text())
    check(tfds.features.Tensor(shape=(None,), dtype=np.uint8, encoding="bytes"))
    for feature in (
        tfds.features.ClassLabel(num_classes=3),
        tfds.features.Sequence(tfds.features.Text()),
        tfds.features.Scalar(np.float32),
    ):
        with pytest.raises(GenaxError, match='tfds:fake has no feature "text" that is a text'):
            check(feature)


@pytest.mark.parametrize("number", [600, 70_000])
def test_windows_keep_large_numbers(number, monkeypatch, tmp_path):
    """A tokenizer may number few tokens high."""
    monkeypatch.setattr(corpora_module, "load_corpus", lambda name, *_: {"train": ["a b " * 40]})
    vocabulary = {"[UNK]": 0, "a": 1, "b": number}
    model = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    save_tokenizer(Subwords(model), tmp_path)
    data = TextData("fake", "wordpiece", 8, vocab_size=number + 1)
    batch = next(data.opened(tmp_path).train(4, 0, Shard()))
    assert set(batch["tokens"].ravel().tolist()) == {1, number}
    for small in (dataclasses.replace(data, vocab_size=60), SentencePairs("fake", 8, 60)):
        with pytest.raises(GenaxError, match=f"number {number}, more than vocab_size=60 holds"):
            small.opened(tmp_path).train(4, 0, Shard())


def test_clear_errors(corpus, cache):
    with pytest.raises(GenaxError, match="no split 'test'"):
        TextData("fake", split="test").train(2, 0, Shard())
    with pytest.raises(GenaxError, match="too few for a context of 5000"):
        TextData("fake", "bytes", context=5000).train(2, 0, Shard())
    with pytest.raises(GenaxError, match="genax data prepare shakespeare"):
        load_corpus("shakespeare")
    with pytest.raises(GenaxError, match="use ImageData"):
        load_corpus("digits")


def test_standard_library_is_split_by_path():
    splits = load_stdlib()
    held_out, total = len(splits["validation"]), sum(map(len, splits.values()))
    assert 0.02 < held_out / total < 0.09
    assert load_stdlib() == splits
    assert sum(map(len, splits["train"])) > 5_000_000
    assert any('"""Thread module emulating' in text for text in splits["train"])
