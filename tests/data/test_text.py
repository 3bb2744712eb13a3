from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from genax.core.data import Shard
from genax.core.errors import GenaxError
from genax.data import TextData, load_tokenizer
from genax.data import corpora as corpora_module
from genax.data.corpora import load_corpus, split_by_position
from genax.data.embedded import load_stdlib

DOCUMENTS = ["abcdefghij" * 30, "the quick brown fox jumps over the lazy dog. " * 10]


@pytest.fixture
def corpus(monkeypatch):
    splits = split_by_position(DOCUMENTS)
    monkeypatch.setattr(corpora_module, "load_corpus", lambda name: splits)
    return splits


def test_split_by_position_cuts_a_document():
    splits = split_by_position(["aaaa", "bbbbbb"], fraction=0.5)
    assert splits == {"train": ["aaaa", "b"], "validation": ["bbbbb"]}


def test_windows_are_the_text_at_their_starts(corpus, tmp_path):
    data = TextData("fake", "characters", context=16, vocab_size=64)
    batch = next(data.train(8, 0, Shard(), tmp_path))
    assert batch["tokens"].shape == (8, *data.element["tokens"].shape)
    assert batch["tokens"].dtype == data.element["tokens"].dtype == np.int32
    tokenizer, whole = load_tokenizer(tmp_path), "".join(corpus["train"])
    for tokens, start in zip(batch["tokens"], batch["id"], strict=True):
        assert tokenizer.decode(tokens) == whole[start : start + 17]


def test_every_start_comes_once_an_epoch(corpus):
    data = TextData("fake", "bytes", context=16)
    starts = len("".join(corpus["train"])) - 16
    iterator = data.train(1, 0, Shard(), None)
    assert sorted(int(next(iterator)["id"][0]) for _ in range(starts)) == list(range(starts))


def test_shards_split_a_batch_of_windows(corpus):
    data = TextData("fake", "bytes", context=16)
    whole = data.train(8, 0, Shard(), None)
    halves = [data.train(8, 0, Shard(n, 2), None) for n in range(2)]
    for _ in range(5):
        parts = np.concatenate([next(half)["tokens"] for half in halves])
        np.testing.assert_array_equal(next(whole)["tokens"], parts)


def test_evaluation_windows_predict_every_token_once(corpus, tmp_path):
    data = TextData("fake", "bytes", context=8, split="validation")
    batches = list(data.evaluate(4, Shard(), tmp_path))
    tokens = np.concatenate([batch["tokens"] for batch in batches])
    mask = np.concatenate([batch["mask"] for batch in batches])
    targets = tokens[mask == 1][:, 1:].reshape(-1)
    text = "".join(corpus["validation"]).encode()
    assert bytes(targets.astype(np.uint8)) == text[1 : len(targets) + 1]
    assert len(text) - 1 - len(targets) < 8
    assert batches[0]["id"].tolist() == [0, 8, 16, 24]
    limited = list(dataclasses.replace(data, limit=2).evaluate(4, Shard(), tmp_path))
    assert [batch["mask"].tolist() for batch in limited] == [[1, 1, 0, 0]]


def test_tokenizer_is_saved_by_the_first_process_only_and_kept(corpus, tmp_path):
    data = TextData("fake", "bpe", context=8, vocab_size=270)
    data.train(2, 0, Shard(1, 2), tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    data.train(2, 0, Shard(0, 2), tmp_path)
    saved = (tmp_path / "tokenizer.json").read_bytes()
    dataclasses.replace(data).train(2, 0, Shard(), tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == saved


def test_another_tokenizer_in_the_run_is_refused(corpus, tmp_path):
    TextData("fake", "bytes", context=8).train(2, 0, Shard(), tmp_path)
    with pytest.raises(GenaxError, match=r"kind 'bytes' but the experiment asks for 'characters'"):
        TextData("fake", "characters", context=8).train(2, 0, Shard(), tmp_path)
    assert load_tokenizer(tmp_path).kind == "bytes"


def test_a_tokenizer_larger_than_the_model_is_refused(corpus, tmp_path):
    with pytest.raises(GenaxError, match=r"number 27, more than vocab_size=20 holds"):
        TextData("fake", "characters", 8, vocab_size=20).train(2, 0, Shard(), tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()


def test_fingerprint_follows_text_and_settings(corpus, monkeypatch):
    data = TextData("fake", "bytes", context=8)
    prints = {data.fingerprint(), dataclasses.replace(data, context=9).fingerprint()}
    prints.add(dataclasses.replace(data, split="validation").fingerprint())
    assert dataclasses.replace(data).fingerprint() in prints
    changed = split_by_position([DOCUMENTS[0].replace("a", "b", 1), DOCUMENTS[1]])
    monkeypatch.setattr(corpora_module, "load_corpus", lambda name: changed)
    prints.add(dataclasses.replace(data).fingerprint())
    assert len(prints) == 4


def test_clear_errors(corpus, cache):
    with pytest.raises(GenaxError, match="no split 'test'"):
        TextData("fake", split="test").train(2, 0, Shard(), None)
    with pytest.raises(GenaxError, match="too few for a context of 5000"):
        TextData("fake", "bytes", context=5000).train(2, 0, Shard(), None)
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
