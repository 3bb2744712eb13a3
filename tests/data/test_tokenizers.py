from __future__ import annotations

import numpy as np
import pytest

from genax.core.errors import GenaxError
from genax.data.tokenizer_training import BERT_SPECIALS, train_tokenizer
from genax.data.tokenizers import load_tokenizer, save_tokenizer

DOCUMENTS = ["To be, or not to be: that is the question.\n" * 20, "Naïve café ☃ 𝄞\n\n  end"]


def make(kind):
    return train_tokenizer(kind, DOCUMENTS, 300)


@pytest.mark.parametrize("kind", ["bytes", "characters", "bpe"])
def test_round_trip_also_after_saving(kind, tmp_path):
    tokenizer = make(kind)
    save_tokenizer(tokenizer, tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.kind, loaded.size) == (kind, tokenizer.size)
    for text in [*DOCUMENTS, "", "to be"]:
        tokens = loaded.encode(text)
        assert tokens.dtype == np.int32
        np.testing.assert_array_equal(tokens, tokenizer.encode(text))
        assert tokens.max(initial=0) < loaded.size
        assert loaded.decode(tokens) == text
    together = np.concatenate(loaded.encode_all(DOCUMENTS))
    assert loaded.decode(together) == "".join(DOCUMENTS)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


def test_characters_are_sorted_and_include_held_out_text():
    tokenizer = train_tokenizer("characters", ["cab"], 10, held_out=["d"])
    assert tokenizer.encode("abcd").tolist() == [0, 1, 2, 3]


def test_unknown_characters_are_named():
    tokenizer = train_tokenizer("characters", ["abc"], 10)
    with pytest.raises(GenaxError, match=r"3 characters lack 'x', '☃'"):
        tokenizer.encode("a☃bx")


def test_any_sampled_number_decodes():
    assert make("bytes").decode([255, 65]) == "�A"
    assert train_tokenizer("characters", ["ab"], 9).decode([0, 5, 1]) == "a�b"
    assert make("bpe").decode([299, 10_000]) is not None


def test_byte_pairs_are_deterministic_and_of_the_asked_size():
    first, second = make("bpe"), make("bpe")
    assert first.to_json() == second.to_json()
    assert first.size == 300
    assert len(first.encode(DOCUMENTS[0])) < len(DOCUMENTS[0]) / 2


def test_encoding_is_quick():
    import time

    text = "".join(DOCUMENTS) * 6000
    tokenizer = make("characters")
    start = time.process_time()
    assert len(tokenizer.encode(text)) > 5_000_000
    assert time.process_time() - start < 1


def test_errors_name_the_file_and_the_kinds(tmp_path):
    with pytest.raises(GenaxError, match=r"no tokenizer 'words'; there are 'bytes'"):
        train_tokenizer("words", DOCUMENTS, 300)
    with pytest.raises(GenaxError, match="256"):
        train_tokenizer("bpe", DOCUMENTS, 100)
    with pytest.raises(GenaxError, match=r"tokenizer\.json is missing"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(GenaxError, match=r"tokenizer\.json is not a tokenizer"):
        load_tokenizer(tmp_path)


def test_wordpiece_is_bert_s_and_always_the_same():
    documents = ["Unbelievable things, believable things; 5°C and ÉTÉ."] * 3
    first, again = (train_tokenizer("wordpiece", documents, 120) for _ in range(2))
    assert first.to_json() == again.to_json()
    assert [first.special(token) for token in BERT_SPECIALS] == [0, 1, 2, 3, 4]
    assert first.decode_all([first.encode("Été, believable")]) == ["ete, believable"]
    assert first.encode("[MASK] 漢").tolist() == [4, 1]
