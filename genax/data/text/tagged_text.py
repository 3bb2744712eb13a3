"""Sentences whose words have labels, as for named entities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np

from genax.core.errors import GenaxError
from genax.data.features import check_features, check_labels
from genax.data.fields import Labels, Texts
from genax.data.text.token_data import Example, TokenData, padded, spec
from genax.data.text.tokenizers import Subwords

UNLABELLED = -1


@dataclass(frozen=True)
class TaggedText(TokenData):
    """Words of a sentence as BERT reads them; a word's label stands at its first subword.

    See Devlin et al. 2018, section 5.3. A sentence that is longer than the context makes several
    rows, cut between words. "tokens" int32 [context], "real" bool [context], "labels" int32
    [context], -1 if there is none, "sentence" int32 [], the number of the row's example.

    words, labels: names in the examples.
    classes: how many the reader of the labels has; a label beyond them is refused. None is any.
    """

    words: str = "words"
    labels: str = "labels"
    # No row changes with it.
    classes: int | None = field(default=None, repr=False)

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one row's arrays; reads no data."""
        row = (self.context,)
        return {
            "tokens": spec(row),
            "real": spec(row, np.bool_),
            "labels": spec(row),
            "sentence": spec(()),
        }

    @property
    def labels_in(self) -> Sequence[str]:
        """The labels."""
        return (self.labels,)

    def check(self, examples: Sequence[Example]) -> None:
        """Raise GenaxError for examples without a label for each word, or one that is no class."""
        check_features(examples, {self.words: Texts(), self.labels: Labels()}, self.origin)
        for example in examples:
            words, labels = len(example[self.words]), len(example[self.labels])
            if words != labels:
                raise GenaxError(
                    f"{self.origin} has {labels} {self.labels} for {words} {self.words} in one "
                    "example; choose features of one length, or another set."
                )
        found = [label for example in examples for label in example[self.labels]]
        check_labels(found, self.classes, self.origin, self.labels)

    def texts(self, examples: Sequence[Example]) -> Iterable[str]:
        """Return what a new tokenizer is trained on."""
        return (" ".join(example[self.words]) for example in examples)

    def encode(self, tokenizer: Subwords, examples: Sequence[Example]) -> Mapping[str, np.ndarray]:
        """Return rows [n, ...]; raises GenaxError for a word that exceeds the context by itself."""
        words = [word for example in examples for word in example[self.words]]
        pieces = iter(tokenizer.encode_all(words))
        unknown = np.array([tokenizer.special("[UNK]")])
        rows, labels, sentences = [], [], []
        for number, example in enumerate(examples):
            # A word of control characters alone has no pieces.
            found = [
                piece if len(piece) else unknown
                for _, piece in zip(example[self.words], pieces, strict=False)
            ]
            for tokens, tags in self._parts(found, example[self.labels]):
                rows.append([tokenizer.special("[CLS]"), *tokens, tokenizer.special("[SEP]")])
                labels.append([UNLABELLED, *tags, UNLABELLED])
                sentences.append(number)
        lengths = np.array([len(row) for row in rows])
        return {
            "tokens": padded(rows, self.context, tokenizer.special("[PAD]")),
            "real": np.arange(self.context) < lengths[:, None],
            "labels": padded(labels, self.context, UNLABELLED),
            "sentence": np.array(sentences, np.int32),
        }

    def _parts(self, words, labels) -> Iterator[tuple[list[int], list[int]]]:
        """Yield tokens and labels row by row, each of as many words as fit."""
        room = self.context - 2
        tokens: list[int] = []
        tags: list[int] = []
        for word, label in zip(words, labels, strict=True):
            if len(word) > room:
                raise GenaxError(
                    f"a word of {self.name} has {len(word)} tokens, more than a context of "
                    f"{self.context} holds; choose a larger one."
                )
            if len(tokens) + len(word) > room:
                yield tokens, tags
                tokens, tags = [], []
            tokens += word.tolist()
            tags += [label] + [UNLABELLED] * (len(word) - 1)
        if tokens:
            yield tokens, tags
