"""Tokenizers: bytes, characters and subwords, each saved as one JSON file in the run."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from etils import epath

from genax.core.errors import GenaxError

FILE = "tokenizer.json"
KINDS = ("bytes", "characters", "bpe", "wordpiece")
# Kinds that none is made of, and that pretrained models have.
PRETRAINED_KINDS = ("unigram", "wordlevel")

# What a number that is no token decodes to.
UNKNOWN = "\N{REPLACEMENT CHARACTER}"


class Tokenizer(Protocol):
    """Text to numbers in [0, size) and back."""

    @property
    def kind(self) -> str:
        """One of KINDS."""
        ...

    @property
    def size(self) -> int:
        """The largest number of a token plus one: the rows that a table of tokens needs."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """int32 [n]."""
        ...

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One int32 array per text."""
        ...

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Return the text of any numbers; one that is no token becomes U+FFFD."""
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
        # What a shell passes on that is no UTF-8 arrives as lone surrogates.
        return np.frombuffer(text.encode(errors="surrogatepass"), np.uint8).astype(np.int32)

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One int32 array per text."""
        return [self.encode(text) for text in texts]

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Return the text; bytes that are not UTF-8 and numbers that are no byte become U+FFFD."""
        # 255 is no part of UTF-8, so it decodes to one U+FFFD and leaves its neighbours alone.
        return _within(tokens, self.size, 255).astype(np.uint8).tobytes().decode(errors="replace")

    def to_json(self) -> str:
        """What `load_tokenizer` reads."""
        return json.dumps({"kind": self.kind}, allow_nan=False)


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
        highest = max(int(points.max(initial=0)), int(self._points.max(initial=0)))
        table = np.full(highest + 1, -1, np.int32)
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
        """Return the text; numbers outside the vocabulary become U+FFFD."""
        table = np.append(self._points, np.uint32(ord(UNKNOWN)))
        known = _within(tokens, self.size, self.size)
        return table[known].tobytes().decode("utf-32-le", errors="replace")

    def to_json(self) -> str:
        """What `load_tokenizer` reads."""
        return json.dumps({"kind": self.kind, "vocabulary": self.vocabulary}, allow_nan=False)


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

    @cached_property
    def size(self) -> int:
        """The largest number of a token plus one; numbers below it may have no token."""
        return max(self._names, default=-1) + 1

    @cached_property
    def _names(self) -> Mapping[int, str]:
        return {number: token for token, number in self.model.get_vocab().items()}

    @cached_property
    def _specials(self) -> Set[int]:
        added = self.model.get_added_tokens_decoder()
        return {number for number, token in added.items() if token.special}

    def special(self, token: str) -> int:
        """The number of a special token. Raises GenaxError if there is none of that name."""
        number = self.model.token_to_id(token)
        if number is None:
            raise GenaxError(f"the {self.kind!r} tokenizer has no token {token}.")
        return number

    @cached_property
    def prefix(self) -> np.ndarray:
        """Return the tokens that the model expects before a text, such as <s>, int32 [n]."""
        model, sample = self.model, "a"
        bare = model.encode(sample, add_special_tokens=False).ids
        whole = model.encode(sample, add_special_tokens=True).ids
        starts = range(len(whole) - len(bare) + 1)
        first = next((at for at in starts if whole[at : at + len(bare)] == bare), 0)
        return np.array(whole[:first], np.int32)

    def encode(self, text: str) -> np.ndarray:
        """int32 [n]."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One int32 array per text, encoded in parallel. Raises GenaxError if one has no tokens.

        Only the few tokenizers without a token for what is unknown have none for some texts.
        """
        encodings = self._encodings(self.model.encode_batch_fast, texts)
        return [np.asarray(encoding.ids, np.int32) for encoding in encodings]

    def encode_places(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Tokens int32 [n] of each text, and where in it each begins and ends, int32 [n, 2]."""
        return [
            (np.asarray(e.ids, np.int32), np.asarray(e.offsets, np.int32).reshape(-1, 2))
            for e in self._encodings(self.model.encode_batch, texts)
        ]

    def _encodings(self, encode: Callable[..., Any], texts: Sequence[str]) -> Any:
        try:
            return encode(list(texts), add_special_tokens=False)
        except Exception as error:  # `tokenizers` raises bare Exception
            raise GenaxError(
                f"the {self.kind!r} tokenizer cannot encode the text ({error}); give it a token "
                "for what is unknown, or leave that text out."
            ) from error

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Return the text with its special tokens; numbers that are no token become U+FFFD."""
        return self._decode(np.asarray(tokens).tolist(), skip_specials=False)

    def decode_all(self, rows: Sequence[Sequence[int]] | np.ndarray) -> list[str]:
        """The text of each row of tokens, without special ones; see `decode`."""
        return [self._decode(np.asarray(row).tolist(), skip_specials=True) for row in rows]

    def _decode(self, tokens: list[int], skip_specials: bool) -> str:
        if all(token in self._names for token in tokens):
            return self.model.decode(tokens, skip_special_tokens=skip_specials)
        # The library leaves out numbers that are no token, and its decoder takes any text for one.
        skipped = self._specials if skip_specials else ()
        texts = [self._names.get(token, UNKNOWN) for token in tokens if token not in skipped]
        decoder = self.model.decoder
        return " ".join(texts) if decoder is None else decoder.decode(texts)

    def to_json(self) -> str:
        """Hugging Face's own format, which other programs read too."""
        return self.model.to_str()


def join_tokens(rows: Sequence[np.ndarray], tokenizer: Tokenizer) -> np.ndarray:
    """All rows one after the other, in the narrowest type that holds the tokenizer's numbers.

    Raises GenaxError for a number that the tokenizer does not have.
    """
    size = tokenizer.size
    dtype = np.min_scalar_type(max(size - 1, 0))
    result = np.empty(sum(map(len, rows)), dtype)
    end = 0
    for row in rows:
        if len(row) and not 0 <= row.min() <= row.max() < size:
            wrong = row[(row < 0) | (row >= size)][0]
            raise GenaxError(
                f"the {tokenizer.kind!r} tokenizer gives the number {wrong}, which is not among "
                f"its own in [0, {size}); its {FILE} is damaged."
            )
        result[end : end + len(row)] = row
        end += len(row)
    return result


def _within(tokens: Sequence[int] | np.ndarray, size: int, other: int) -> np.ndarray:
    """int64 [n]: the numbers in [0, size), and `other` in place of the rest."""
    tokens = np.asarray(tokens)
    return np.where((tokens >= 0) & (tokens < size), tokens, other).astype(np.int64)


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)


def save_tokenizer(tokenizer: Tokenizer, workdir: Any) -> None:
    """Write `workdir/tokenizer.json`, whole or not at all."""
    folder = epath.Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{FILE}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    temporary.write_text(tokenizer.to_json(), encoding="utf-8")
    temporary.replace(folder / FILE)


def load_tokenizer(workdir: Any) -> Tokenizer:
    """The tokenizer of a run. Raises GenaxError if there is none or it is damaged."""
    path = epath.Path(workdir) / FILE
    if not path.exists():
        raise GenaxError(f"{path} is missing: {workdir} holds no run that was trained on text.")
    return read_tokenizer(path)


def read_tokenizer(path: epath.Path) -> Tokenizer:
    """The tokenizer of a file. Raises GenaxError if it is damaged."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        if "model" in content:
            from tokenizers import Tokenizer as Model

            return Subwords(Model.from_str(text))
        if content["kind"] == "bytes":
            return Bytes()
        if content["kind"] == "characters" and isinstance(content["vocabulary"], str):
            return Characters(content["vocabulary"])
        raise ValueError(f"no tokenizer of kind {content['kind']!r} is kept like this")
    except Exception as error:  # `tokenizers` raises bare Exception
        raise GenaxError(
            f"{path} is not a tokenizer ({error}); restore it from a copy of the run."
        ) from error
