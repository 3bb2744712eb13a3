"""Tokenizers: bytes, characters and subwords, each saved as one JSON file in the run."""

from __future__ import annotations

import json
import os
import string
import unicodedata
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from etils import epath

from genax.core.errors import GenaxError

FILE = "tokenizer.json"
KINDS = ("bytes", "characters", "bpe", "wordpiece")
# The first tokens of a trained "wordpiece", as BERT has them; "bpe" has those that are asked for.
BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Tokenizer(Protocol):
    """Text to numbers in [0, size) and back."""

    @property
    def kind(self) -> str:
        """One of KINDS."""
        ...

    @property
    def size(self) -> int:
        """Number of tokens."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """int32 [n]."""
        ...

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One int32 array per text."""
        ...

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Any numbers a model may sample have a text."""
        ...

    def to_json(self) -> str:
        """What `load_tokenizer` reads."""
        ...


@dataclass(frozen=True)
class Bytes:
    """The 256 bytes of UTF-8: no training, no unknown text."""

    kind = "bytes"
    size = 256

    def encode(self, text: str) -> np.ndarray:
        """int32 [number of UTF-8 bytes]."""
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32)

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One int32 array per text."""
        return [self.encode(text) for text in texts]

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Bytes that are not UTF-8 become U+FFFD, since a model may sample any of them."""
        return np.asarray(tokens, np.uint8).tobytes().decode(errors="replace")

    def to_json(self) -> str:
        """What `load_tokenizer` reads."""
        return json.dumps({"kind": self.kind})


@dataclass(frozen=True)
class Characters:
    """One token per character; token k is the k-th of `vocabulary`."""

    vocabulary: str
    kind = "characters"

    @property
    def size(self) -> int:
        """Number of distinct characters."""
        return len(self.vocabulary)

    @cached_property
    def _points(self) -> np.ndarray:
        return _code_points(self.vocabulary)

    def encode(self, text: str) -> np.ndarray:
        """int32 [number of characters]. Raises GenaxError naming characters it does not have."""
        points = _code_points(text)
        table = np.full(max(int(points.max(initial=0)), int(self._points.max())) + 1, -1, np.int32)
        table[self._points] = np.arange(self.size)
        tokens = table[points]
        if len(tokens) and tokens.min() < 0:
            unknown = sorted({chr(point) for point in points[tokens < 0]})
            shown = ", ".join(repr(character) for character in unknown[:10])
            more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
            raise GenaxError(
                f"the tokenizer's {self.size} characters lack {shown}{more}; "
                'leave them out, or train with tokenizer="bytes".'
            )
        return tokens

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One int32 array per text."""
        return [self.encode(text) for text in texts]

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Numbers beyond the vocabulary (a model's table may be larger) become U+FFFD."""
        tokens = np.asarray(tokens, np.int64)
        table = np.append(self._points, np.uint32(0xFFFD))
        known = np.where((tokens >= 0) & (tokens < self.size), tokens, self.size)
        return table[known].tobytes().decode("utf-32-le")

    def to_json(self) -> str:
        """What `load_tokenizer` reads."""
        return json.dumps({"kind": self.kind, "vocabulary": self.vocabulary})


@dataclass(frozen=True)
class Subwords:
    """Byte-pair encoding, WordPiece and the like: `model` is a `tokenizers.Tokenizer`.

    It encodes the text alone: special tokens, truncation and padding are the data's business.
    """

    model: Any

    def __post_init__(self):
        self.model.no_truncation()
        self.model.no_padding()

    @property
    def kind(self) -> str:
        """The model's type: "bpe", "wordpiece", "unigram", ..."""
        return type(self.model.model).__name__.lower()

    @property
    def size(self) -> int:
        """Number of tokens, special ones included."""
        return self.model.get_vocab_size()

    def special(self, token: str) -> int:
        """The number of a special token. Raises GenaxError where there is none of that name."""
        number = self.model.token_to_id(token)
        if number is None:
            raise GenaxError(f"the {self.kind!r} tokenizer has no token {token}.")
        return number

    def encode(self, text: str) -> np.ndarray:
        """int32 [n]; every text has an encoding."""
        return np.asarray(self.model.encode(text, add_special_tokens=False).ids, np.int32)

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One int32 array per text, encoded in parallel."""
        encodings = self.model.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(encoding.ids, np.int32) for encoding in encodings]

    def encode_places(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Tokens int32 [n] of each text, and where in it each begins and ends, int32 [n, 2]."""
        encodings = self.model.encode_batch(list(texts), add_special_tokens=False)
        return [
            (np.asarray(e.ids, np.int32), np.asarray(e.offsets, np.int32).reshape(-1, 2))
            for e in encodings
        ]

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Special tokens show where the text has them; numbers beyond the vocabulary do not."""
        return self.model.decode(np.asarray(tokens).tolist(), skip_special_tokens=False)

    def decode_all(self, rows: Sequence[Sequence[int]] | np.ndarray) -> list[str]:
        """The text of each row of tokens, without special ones."""
        rows = [np.asarray(row).tolist() for row in rows]
        return self.model.decode_batch(rows, skip_special_tokens=True)

    def to_json(self) -> str:
        """Hugging Face's own format, which other programs read too."""
        return self.model.to_str()


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)


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


def save_tokenizer(tokenizer: Tokenizer, workdir: Any) -> None:
    """Write `workdir/tokenizer.json`, whole or not at all."""
    folder = epath.Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{FILE}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    temporary.write_text(tokenizer.to_json(), encoding="utf-8")
    temporary.replace(folder / FILE)


def load_tokenizer(workdir: Any) -> Tokenizer:
    """The tokenizer of a run. Raises GenaxError where there is none or it is damaged."""
    path = epath.Path(workdir) / FILE
    if not path.exists():
        raise GenaxError(f"{path} is missing: {workdir} holds no run that was trained on text.")
    return read_tokenizer(path)


def read_tokenizer(path: epath.Path) -> Tokenizer:
    """The tokenizer of a file. Raises GenaxError where it is damaged."""
    text = path.read_text(encoding="utf-8")
    try:
        content = json.loads(text)
        if "model" in content:
            from tokenizers import Tokenizer as Model

            return Subwords(Model.from_str(text))
        return Bytes() if content["kind"] == "bytes" else Characters(content["vocabulary"])
    except Exception as error:  # `tokenizers` raises bare Exception
        raise GenaxError(
            f"{path} is not a tokenizer ({error}); restore it from a copy of the run."
        ) from error
