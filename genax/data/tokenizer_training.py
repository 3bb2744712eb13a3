"""Tokenizers made from a corpus."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from genax.core.errors import GenaxError
from genax.data.tokenizers import KINDS, Bytes, Characters, Subwords, Tokenizer

# The first tokens of a trained "wordpiece", as BERT has them; "bpe" has those that are asked for.
BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


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
    specials: the first tokens of a "bpe". Raises GenaxError for another kind.
    """
    if kind == "bytes":
        return Bytes()
    if kind == "characters":
        return Characters("".join(sorted(set().union(*documents, *held_out))))
    if kind == "bpe":
        return _train_byte_pairs(documents, vocab_size, specials)
    if kind == "wordpiece":
        return _train_wordpiece(documents, vocab_size)
    raise GenaxError(f"no tokenizer {kind!r}; there are {', '.join(map(repr, KINDS))}.")


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
