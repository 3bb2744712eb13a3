"""Texts with a label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np

from genax.core.errors import GenaxError
from genax.data.features import check_features, check_labels
from genax.data.fields import Label, Text
from genax.data.text.token_data import Example, TokenData, padded, spec
from genax.data.text.tokenizers import Subwords


@dataclass(frozen=True)
class ClassifiedText(TokenData):
    """One text a row, as BERT reads it: [CLS] text [SEP]; a longer text is cut at its end.

    "tokens" int32 [context], "real" bool [context], "label" int32 [].

    text, label: names in the examples.
    classes: how many the reader of the labels has; a label beyond them is refused. None is any.
    """

    text: str = "text"
    label: str = "label"
    # No row changes with it.
    classes: int | None = field(default=None, repr=False)

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one row's arrays; reads no data."""
        return {
            "tokens": spec((self.context,)),
            "real": spec((self.context,), np.bool_),
            "label": spec(()),
        }

    @property
    def labels_in(self) -> Sequence[str]:
        """The label."""
        return (self.label,)

    def check(self, examples: Sequence[Example]) -> None:
        """Raise GenaxError for examples without a text, or whose label is no class."""
        check_features(examples, {self.text: Text(), self.label: Label()}, self.origin)
        names = self.class_names
        if self.classes is not None and len(names) > self.classes:
            raise GenaxError(
                f"{self.name} has {len(names)} classes of {self.label} "
                f"({', '.join(names)[:200]}), more than {self.classes}; set "
                f"config.num_labels={len(names)}."
            )
        labels = [example[self.label] for example in examples]
        check_labels(labels, self.classes, self.origin, self.label)

    def texts(self, examples: Sequence[Example]) -> Iterable[str]:
        """Return what a new tokenizer is trained on."""
        return (example[self.text] for example in examples)

    def encode(self, tokenizer: Subwords, examples: Sequence[Example]) -> Mapping[str, np.ndarray]:
        """Return rows [n, ...]."""
        first, last = tokenizer.special("[CLS]"), tokenizer.special("[SEP]")
        found = tokenizer.encode_all(list(self.texts(examples)))
        rows = [[first, *row[: self.context - 2], last] for row in found]
        lengths = np.array([len(row) for row in rows])
        return {
            "tokens": padded(rows, self.context, tokenizer.special("[PAD]")),
            "real": np.arange(self.context) < lengths[:, None],
            "label": np.array([example[self.label] for example in examples], np.int32),
        }
