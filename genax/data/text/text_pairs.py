"""Pairs of texts, a source and its target: translations, summaries."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np

from genax.core.errors import GenaxError
from genax.data.features import check_features
from genax.data.fields import Text
from genax.data.text.token_data import Example, TokenData, padded, spec
from genax.data.text.tokenizers import Subwords

# Numbers of the special tokens of a new "bpe" for pairs.
PAD, START, END = 0, 1, 2


@dataclass(frozen=True)
class TextPairs(TokenData):
    """Pairs of texts in one vocabulary: Vaswani et al. 2017, section 5.1.

    "source" int32 [context]: text, end. "target" int32 [target_length + 1]: start, text, end. Both
    end in padding. In training, pairs that do not fit are left out, with a warning that counts
    them; in evaluation they are cut.

    source, target: names in the examples.
    target_context: tokens of a target; 0 is as many as a source has.
    special_tokens: numbers of padding, start and end, which a new tokenizer has in this order.
    """

    tokenizer: str = "bpe"
    source: str = "source"
    target: str = "target"
    target_context: int = 0
    # Others come with a pretrained tokenizer, which the fingerprint names.
    special_tokens: tuple[int, ...] = field(default=(PAD, START, END), repr=False)

    def __post_init__(self):
        super().__post_init__()
        if len(self.special_tokens) != 3:
            raise GenaxError(
                f"special_tokens={self.special_tokens} are the numbers of three tokens: padding, "
                "start and end."
            )

    @property
    def target_length(self) -> int:
        """The number of tokens of a target, its end included."""
        return self.target_context or self.context

    @property
    def specials(self) -> Sequence[str]:
        """Padding, start, end.

        Raises GenaxError if these are to have other numbers than the first.
        """
        if self.special_tokens != (PAD, START, END):
            raise GenaxError(
                f"special_tokens={self.special_tokens} are those of a pretrained tokenizer; a new "
                f"one has {(PAD, START, END)}."
            )
        return ("<pad>", "<s>", "</s>")

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one row's arrays; reads no data."""
        return {"source": spec((self.context,)), "target": spec((self.target_length + 1,))}

    def check(self, examples: Sequence[Example]) -> None:
        """Raise GenaxError for examples without both texts."""
        check_features(examples, {self.source: Text(), self.target: Text()}, self.origin)

    def texts(self, examples: Sequence[Example]) -> Iterable[str]:
        """Return what a new tokenizer is trained on."""
        return (example[side] for example in examples for side in (self.source, self.target))

    def encode_sources(self, tokenizer: Subwords, texts: Sequence[str]) -> np.ndarray:
        """Return rows "source" of texts, cut if they are too long."""
        pad, _, end = self.special_tokens
        rows = [[*row[: self.context - 1], end] for row in tokenizer.encode_all(texts)]
        return padded(rows, self.context, pad)

    def encode(self, tokenizer: Subwords, examples: Sequence[Example]) -> Mapping[str, np.ndarray]:
        """Return rows [n, ...]."""
        sources = tokenizer.encode_all([example[self.source] for example in examples])
        targets = tokenizer.encode_all([example[self.target] for example in examples])
        length, size = self.context, self.target_length
        pairs = list(zip(sources, targets, strict=True))
        if self.is_training:
            fitting = [(s, t) for s, t in pairs if len(s) < length and len(t) < size]
            if len(fitting) < len(pairs):
                warnings.warn(
                    f"{len(pairs) - len(fitting)} of {len(pairs)} pairs of {self.name} exceed "
                    f"contexts of {length} and {size} and are left out.",
                    stacklevel=2,
                )
            pairs = fitting
        pad, start, end = self.special_tokens
        return {
            "source": padded([[*s[: length - 1], end] for s, _ in pairs], length, pad),
            "target": padded([[start, *t[: size - 1], end] for _, t in pairs], size + 1, pad),
        }
