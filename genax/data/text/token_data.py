"""Examples of a set as arrays of tokens: what classified, tagged, paired texts have in common."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from genax.core.data import BatchIterator, Shard
from genax.core.errors import GenaxError
from genax.data import pipeline
from genax.data.fields import Label, Labels
from genax.data.own.forms import form_of
from genax.data.pipeline import Batch
from genax.data.sets.named import identity
from genax.data.shuffling import permute
from genax.data.text.examples import example_set, fingerprint_examples, load_examples
from genax.data.text.run_tokenizer import Tokenized, pretrained_tokenizer, run_tokenizer
from genax.data.text.tokenizer_training import train_tokenizer
from genax.data.text.tokenizers import Subwords, Tokenizer
from genax.settings.ranges import COUNT, check_fields

Example = Mapping[str, Any]


@dataclass(frozen=True)
class TokenData(Tokenized):
    """A split of `load_examples`, encoded once and held in memory.

    name: of the set. context: tokens of a row. vocab_size: at least as many as the tokenizer has.
    tokenizer: "wordpiece" or "bpe", trained on the split "train" to vocab_size tokens unless
    pretrained names a folder that holds one. limit: only so many examples, drawn at random, always
    the same ones. damaged: what is done with lines of one's own that cannot be read, see
    `open_set`.
    """

    name: str
    context: int
    vocab_size: int
    split: str = "train"
    tokenizer: str = "wordpiece"
    pretrained: str = ""
    limit: int | None = None
    damaged: str = field(default="refuse", repr=False)

    def __post_init__(self):
        check_fields(self, context=COUNT, vocab_size=COUNT, limit=COUNT)

    @property
    @abstractmethod
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one row's arrays; reads no data."""
        ...

    @abstractmethod
    def texts(self, examples: Sequence[Example]) -> Iterable[str]:
        """What a new tokenizer is trained on."""
        ...

    @abstractmethod
    def encode(self, tokenizer: Subwords, examples: Sequence[Example]) -> Mapping[str, np.ndarray]:
        """Rows [n, ...]; an example may make several."""
        ...

    @abstractmethod
    def check(self, examples: Sequence[Example]) -> None:
        """Raise GenaxError for examples that `encode` cannot read, or whose labels nothing fits."""
        ...

    @property
    def origin(self) -> str:
        """The split and the set, as errors name them."""
        return f"split {self.split!r} of {self.name}"

    @property
    def labels_in(self) -> Sequence[str]:
        """Parts of the examples that are classes, also if a user's own file has texts there."""
        return ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, if a file of one's own has them; opens the file."""
        names = self.labels_in if form_of(self.name) is not None else ()
        fields = example_set(self.name, self.damaged, names).fields if names else {}
        found = [fields[name] for name in names if name in fields]
        return found[0].names if found and isinstance(found[0], Label | Labels) else ()

    @property
    def says(self) -> Sequence[str]:
        """What a run tells its user of the set."""
        return example_set(self.name, self.damaged, self.labels_in).says

    @property
    def is_training(self) -> bool:
        """Whether the split is the training split or a slice of it."""
        return self.split.startswith("train")

    @property
    def specials(self) -> Sequence[str]:
        """The first tokens of a new "bpe"."""
        return ()

    @property
    def examples(self) -> Sequence[Example]:
        """The split's examples. Raises GenaxError if there is none, or `check` does."""
        if "examples" not in self._kept:
            found = load_examples(self.name, self.split, self.damaged, self.labels_in)
            if self.limit is not None and self.limit < len(found):
                chosen = permute(np.arange(self.limit, dtype=np.int64), len(found), 0)
                found = [found[number] for number in chosen]
            if not found:
                raise GenaxError(
                    f"{self.origin} has no examples; choose another, or a limit above 0."
                )
            self.check(found)
            self._kept["examples"] = found
        return self._kept["examples"]

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the set and everything that changes a row.

        Raises GenaxError as `examples` does: a run asks for this before anything is computed.
        """
        content = fingerprint_examples(self.name, self.split, self.damaged, self.labels_in)
        _ = self.examples
        how = replace(self, name=identity(self.name))
        return hashlib.sha256(f"{how!r} {content}".encode()).hexdigest()

    def get_tokenizer(self, save: bool = False) -> Subwords:
        """The run's tokenizer, or the one that a new run would have; see `run_tokenizer`."""
        found = run_tokenizer(self._workdir, self.tokenizer, self.vocab_size, self._new, save)
        if not isinstance(found, Subwords):
            raise GenaxError(f'{self.name} needs a tokenizer "wordpiece" or "bpe".')
        return found

    def _make(self) -> Tokenizer:
        if self.pretrained:
            return pretrained_tokenizer(self.pretrained)
        texts = list(self.texts(replace(self, split="train", limit=None).examples))
        return train_tokenizer(self.tokenizer, texts, self.vocab_size, specials=self.specials)

    def rows(self, save: bool = False) -> Mapping[str, np.ndarray]:
        """All rows, in the order of the examples."""
        tokenizer = self.get_tokenizer(save)
        key = tokenizer.to_json()
        if key not in self._kept:
            self._kept[key] = self.encode(tokenizer, self.examples)
        return self._kept[key]

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless shuffled batches."""
        rows = self.rows(save=shard.number == 0)
        size = len(next(iter(rows.values())))
        return pipeline.train_batches(lambda ids: _take(rows, ids), size, batch_size, seed, shard)

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Mapping[str, np.ndarray]]:
        """Every row once, in order, with "mask"."""
        rows = self.rows(save=shard.number == 0)
        size = len(next(iter(rows.values())))
        return pipeline.evaluation_batches(lambda ids: _take(rows, ids), size, batch_size, shard)


def _take(rows: Mapping[str, np.ndarray], ids: np.ndarray) -> Batch:
    return {name: array[ids] for name, array in rows.items()}


def padded(rows: Sequence[Sequence[int]], length: int, fill: int) -> np.ndarray:
    """int32 [n, length]: each row, with `fill` to its right."""
    result = np.full((len(rows), length), fill, np.int32)
    for number, row in enumerate(rows):
        result[number, : len(row)] = row
    return result


def spec(shape: tuple[int, ...], dtype: Any = np.int32) -> jax.ShapeDtypeStruct:
    """Shape and dtype of one row's array."""
    return jax.ShapeDtypeStruct(shape, dtype)
