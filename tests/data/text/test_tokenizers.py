from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer as Model
from tokenizers import models

from genax.core.errors import GenaxError
from genax.data.text.run_tokenizer import run_tokenizer
from genax.data.text.tokenizer_training import BERT_SPECIALS, train_tokenizer
from genax.data.text.tokenizers import (
    Characters,
    Subwords,
    join_tokens,
    load_tokenizer,
    save_tokenizer,
)

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


def as_list(numbers):
    return numbers


def as_int32(numbers):
    return np.array(numbers, np.int32)


def as_int64(numbers):
    return np.array(numbers, np.int64)


@pytest.mark.parametrize("given", [as_list, as_int32, as_int64, jnp.asarray])
def test_a_number_that_is_no_token_decodes_to_one_replacement_character(given):
    assert make("bytes").decode(given([65, 321, 256, -1, 66])) == "A���B"
    assert make("bytes").decode(given([255, 65])) == "�A"
    # The neighbours of half a character stay what they are.
    assert make("bytes").decode(given([65, 0xE2, 0x98, 300, 0x41])) == "A��A"
    assert train_tokenizer("characters", ["ab"], 9).decode(given([0, 5, -1, 1])) == "a��b"
    pairs = train_tokenizer("bpe", ["ab ab"], 300, specials=("<pad>",))
    a, space_b = pairs.encode("a").tolist(), pairs.encode(" b").tolist()
    assert pairs.decode(given([*a, 9_999, -1, *space_b])) == "a�� b"
    assert pairs.decode_all([given([0, *a, -1, *space_b]), given(a)]) == ["a� b", "a"]
    pieces = make("wordpiece")
    to, be = pieces.encode("to").tolist(), pieces.encode("be").tolist()
    assert pieces.decode(given([*to, 9_999, *be])) == "to � be"


def test_no_numbers_and_numbers_beyond_64_bits_decode():
    for kind in ("bytes", "characters", "bpe", "wordpiece"):
        assert make(kind).decode([]) == ""
        assert make(kind).decode([10**30]) == "�"


def test_the_way_around_unknown_numbers_gives_the_library_s_text():
    for kind in ("bpe", "wordpiece"):
        tokenizer = make(kind)
        rows = [tokenizer.encode(text).tolist() for text in DOCUMENTS]
        for row, text in zip(rows, tokenizer.decode_all(rows), strict=True):
            assert tokenizer.decode_all([[*row, -1]])[0].removesuffix("�").rstrip() == text.rstrip()


def renumbered(number):
    """A WordPiece tokenizer whose last token has another number."""
    tokenizer = train_tokenizer("wordpiece", ["the cat sat on the mat"] * 10, 30)
    content = json.loads(tokenizer.to_json())
    last = max(content["model"]["vocab"], key=content["model"]["vocab"].get)
    content["model"]["vocab"][last] = number
    return tokenizer.size, last, Subwords(Model.from_str(json.dumps(content)))


@pytest.mark.parametrize("number", [600, 70_000])
def test_size_is_the_largest_number_plus_one(number, tmp_path):
    size, last, sparse = renumbered(number)
    assert sparse.size == number + 1 > size
    assert sparse.encode(last).tolist() == [number]
    assert sparse.decode([number, size - 1]) == f"{last} �"
    save_tokenizer(sparse, tmp_path)
    with pytest.raises(
        GenaxError, match=rf"number {number}, .* set config.vocab_size to {number + 1} or above"
    ):
        run_tokenizer(tmp_path, "wordpiece", 60, lambda: sparse, True)
    assert run_tokenizer(tmp_path, "wordpiece", number + 1, lambda: sparse, True).size > number


@pytest.mark.parametrize("number", [255, 600, 70_000])
def test_joined_tokens_keep_their_numbers(number):
    _, last, sparse = renumbered(number)
    rows = sparse.encode_all([last, "the cat", "", last])
    joined = join_tokens(rows, sparse)
    np.testing.assert_array_equal(joined, np.concatenate(rows))
    assert joined.dtype == np.min_scalar_type(number)
    assert len(join_tokens([], sparse)) == 0
    for wrong in (number + 1, -1):
        with pytest.raises(GenaxError, match=rf"gives the number {wrong}"):
            join_tokens([*rows, np.array([0, wrong], np.int32)], sparse)


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
    damaged = ('{"model": ', "[]", "3", '{"kind": "words"}', '{"kind": "characters"}')
    for content in (*damaged, '{"kind": "characters", "vocabulary": 3}', "\xff"):
        (tmp_path / "tokenizer.json").write_bytes(content.encode("latin-1"))
        with pytest.raises(GenaxError, match=r"tokenizer\.json is not a tokenizer"):
            load_tokenizer(tmp_path)


@pytest.mark.parametrize("vocab_size", [-1, 0, 4, 10**20])
@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_sizes_that_no_vocabulary_has(kind, vocab_size):
    with pytest.raises(GenaxError, match=f"vocab_size={vocab_size}: "):
        train_tokenizer(kind, DOCUMENTS, vocab_size)


@pytest.mark.parametrize("documents", [[], [""]])
def test_characters_of_an_empty_text(documents):
    with pytest.raises(GenaxError, match=r'"characters" .* this text is empty'):
        train_tokenizer("characters", documents, 10)
    with pytest.raises(GenaxError, match="0 characters lack 'a'"):
        Characters("").encode("a")


def test_a_text_without_an_encoding():
    strict = Subwords(Model(models.WordPiece({"a": 0}, unk_token="[UNK]")))
    for encode in (strict.encode_all, strict.encode_places):
        with pytest.raises(GenaxError, match="cannot encode the text"):
            encode(["b"])
    # What a shell passes on that is no UTF-8.
    with pytest.raises(GenaxError, match="cannot encode the text"):
        make("bpe").encode("\udcff")
    assert make("bytes").decode(make("bytes").encode("a\udcff"))[:2] == "a�"


def test_wordpiece_is_bert_s_and_always_the_same():
    documents = ["Unbelievable things, believable things; 5°C and ÉTÉ."] * 3
    first, again = (train_tokenizer("wordpiece", documents, 120) for _ in range(2))
    assert first.to_json() == again.to_json()
    assert [first.special(token) for token in BERT_SPECIALS] == [0, 1, 2, 3, 4]
    assert first.decode_all([first.encode("Été, believable")]) == ["ete, believable"]
    assert first.encode("[MASK] 漢").tolist() == [4, 1]
