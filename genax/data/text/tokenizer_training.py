"""Tokenizers made from a corpus."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from genax.core.errors import GenaxError
from genax.data.text.tokenizers import KINDS, Bytes, Characters, Subwords, Tokenizer

# The first tokens of a trained "wordpiece", as BERT has them; "bpe" has those that are asked for.
BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_LARGEST = np.iinfo(np.int32).max


def train_tokenizer(
    kind: str,
    documents: Sequence[str],
    vocab_size: int,
    held_out: Iterable[str] = (),
    specials: Sequence[str] = (),
) -> Tokenizer:
    """A tokenizer for a corpus; the same corpus always gives the same tokenizer.

    kind: "bytes"; "characters" (the sorted distinct characters of documents and held_out, as
    nanoGPT has it); "bpe" or "wordpiece" (trained on documents only, to vocab_size tokens).
    specials: the first tokens of a "bpe". Raises GenaxError for another kind, for a vocab_size
    that the kind cannot have, and if documents hold no character that "characters" could number.
    """
    if kind == "bytes":
        return Bytes()
    if kind == "characters":
        return _characters_of(documents, held_out)
    if kind in ("bpe", "wordpiece") and vocab_size > _LARGEST:
        raise GenaxError(f"vocab_size={vocab_size}: tokens are int32, so {_LARGEST} is the most.")
    if kind == "bpe":
        return _train_byte_pairs(documents, vocab_size, specials)
    if kind == "wordpiece":
        return _train_wordpiece(documents, vocab_size)
    raise GenaxError(f"no tokenizer {kind!r}; there are {', '.join(map(repr, KINDS))}.")


def _characters_of(documents: Sequence[str], held_out: Iterable[str]) -> Characters:
    found = set().union(*documents, *held_out)
    if not found:
        raise GenaxError(
            'a tokenizer of kind "characters" is made of the characters of a text, and this text '
            "is empty; check the data set."
        )
    return Characters("".join(sorted(found)))


def _train_byte_pairs(
    documents: Sequence[str], vocab_size: int, specials: Sequence[str]
) -> Subwords:
    from tokenizers import Tokenizer as Model
    from tokenizers import decoders, models, pre_tokenizers, trainers

    if vocab_size < 256 + len(specials):
        raise GenaxError(
            f'vocab_size={vocab_size}: "bpe" starts with 256 bytes and {len(specials)} special '
            "tokens and needs more."
        )
    model = Model(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(specials),
        show_progress=False,
    )
    model.train_from_iterator(documents, trainer)
    return Subwords(model)


def _train_wordpiece(documents: Sequence[str], vocab_size: int) -> Subwords:
    """BERT's, in lower case: Devlin et al. 2018, section 3, and its published code."""
    from tokenizers import Tokenizer as Model
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    if vocab_size < len(BERT_SPECIALS):
        raise GenaxError(
            f'vocab_size={vocab_size}: "wordpiece" starts with {len(BERT_SPECIALS)} special tokens '
            "and needs more."
        )

    def build(vocabulary: dict[str, int]) -> Any:
        model = Model(models.WordPiece(vocabulary, unk_token="[UNK]"))
        model.normalizer = normalizers.BertNormalizer(lowercase=True)
        model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        model.decoder = decoders.WordPiece()
        return model

    model = build({})
    found = "".join(sorted(set().union(*documents)))
    characters = sorted(set("".join(map(model.normalizer.normalize_str, found))))
    # Left to itself, the trainer numbers characters inside of words in an order that changes.
    inner = [f"##{character}" for character in characters if not _stands_alone(character)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=[*BERT_SPECIALS, *inner], show_progress=False
    )
    model.train_from_iterator(documents, trainer)
    model = build(model.get_vocab())
    model.add_special_tokens(list(BERT_SPECIALS))
    return Subwords(model)


def _stands_alone(character: str) -> bool:
    """Whether BERT takes it for a word of its own, or for a space."""
    punctuation = unicodedata.category(character).startswith("P") or character in string.punctuation
    return character.isspace() or punctuation
