"""Texts, or pairs of them, with a real number: how alike two sentences are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from genax.core.errors import GenaxError
from genax.data.features import check_features
from genax.data.fields import Field, Real, Text
from genax.data.text.token_data import Example, TokenData, padded, spec
from genax.data.text.tokenizers import Subwords


@dataclass(frozen=True)
class ScoredText(TokenData):
    """Rows [CLS] text [SEP], or [CLS] text [SEP] second [SEP]: Devlin et al. 2018, figure 4.

    "tokens", "segments" int32 [context] (1 is the second text and its [SEP]), "real" bool
    [context], "label" float32 []. The longer text of a pair is cut until both fit.

    text, label: names in the examples.
    second: name of the second text; "" is single texts.
    """

    text: str = "text"
    second: str = ""
    label: str = "label"

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one row's arrays; reads no data."""
        row = (self.context,)
        return {
            "tokens": spec(row),
            "segments": spec(row),
            "real": spec(row, np.bool_),
            "label": spec((), np.float32),
        }

    @property
    def sides(self) -> tuple[str, ...]:
        """Names of the texts."""
        return (self.text, self.second) if self.second else (self.text,)

    def check(self, examples: Sequence[Example]) -> None:
        """Raise GenaxError for a missing text, a label that is no number, or labels all alike."""
        least = 1 + 2 * len(self.sides)
        if self.context < least:
            raise GenaxError(f"a context of {self.context} holds no text; choose {least} or more.")
        needed: dict[str, Field] = {**dict.fromkeys(self.sides, Text()), self.label: Real()}
        check_features(examples, needed, self.origin)
        labels = {example[self.label] for example in examples}
        if len(examples) > 1 and len(labels) == 1:
            raise GenaxError(
                f"{self.origin} has the {self.label} {labels.pop()} in each example, so there is "
                "nothing to fit or to correlate; the labels of some test splits are withheld in "
                "this way, so choose another split."
            )

    def texts(self, examples: Sequence[Example]) -> Iterable[str]:
        """Return what a new tokenizer is trained on."""
        return (example[side] for example in examples for side in self.sides)

    def encode(self, tokenizer: Subwords, examples: Sequence[Example]) -> Mapping[str, np.ndarray]:
        """Return rows [n, ...]."""
        first, last = tokenizer.special("[CLS]"), tokenizer.special("[SEP]")
        sides = [tokenizer.encode_all([e[side] for e in examples]) for side in self.sides]
        rows: list[list[int]] = []
        segments: list[list[int]] = []
        for parts in zip(*sides, strict=True):
            room = self.context - 1 - len(parts)
            lengths = shares([len(part) for part in parts], room)
            row, segment = [first], [0]
            for number, (part, length) in enumerate(zip(parts, lengths, strict=True)):
                row += [*part[:length], last]
                segment += [number] * (length + 1)
            rows.append(row)
            segments.append(segment)
        sizes = np.array([len(row) for row in rows])
        return {
            "tokens": padded(rows, self.context, tokenizer.special("[PAD]")),
            "segments": padded(segments, self.context, 0),
            "real": np.arange(self.context) < sizes[:, None],
            "label": np.array([example[self.label] for example in examples], np.float32),
        }


def shares(lengths: Sequence[int], room: int) -> list[int]:
    """Return the length of each text if the longest (the last of equals) is cut until all fit."""
    found = list(lengths)
    while sum(found) > room:
        longest = max(range(len(found)), key=lambda number: (found[number], number))
        found[longest] -= 1
    return found
