"""Short texts as rows of characters, each whole, with a beginning and an end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import Int

from genax.core.data import BatchIterator, Shard
from genax.core.errors import GenaxError
from genax.data import pipeline
from genax.data.fields import Text, listed
from genax.data.sets.named import identity
from genax.data.text.examples import example_set, fingerprint_examples, load_examples
from genax.data.text.run_tokenizer import Tokenized, run_tokenizer
from genax.data.text.tokenizer_training import train_tokenizer
from genax.data.text.tokenizers import Characters, Tokenizer
from genax.settings.ranges import COUNT, check_fields

# The first numbers of a row's tokens; the characters follow.
PAD, BEGIN, END = range(3)
SPECIALS = 3


@dataclass(frozen=True)
class LineData(Tokenized):
    """Lines of text: "tokens" int32 [context], BEGIN, the characters, END and PAD up to the end.

    name: of a set whose examples have a text, such as moses, or files of one's own.
    context: tokens of a row. The longest text has two characters less.
    vocab_size: at least three more than there are characters.
    split: "train", or another of the set's, or a slice of one.
    text: the part of an example that is read; "" is its only text.
    characters: all that texts may have; "" is those of the whole set's training split, which takes
      a while to read, and of this split.
    damaged: see `open_set`.
    """

    name: str
    context: int
    vocab_size: int
    split: str = "train"
    text: str = ""
    characters: str = ""
    damaged: str = field(default="refuse", repr=False)

    def __post_init__(self):
        check_fields(self, context=COUNT, vocab_size=COUNT)

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one row; reads no data."""
        return {"tokens": jax.ShapeDtypeStruct((self.context,), np.int32)}

    @property
    def says(self) -> Sequence[str]:
        """What a run tells its user of the set."""
        return example_set(self.name, self.damaged).says

    def texts(self, split: str | None = None) -> list[str]:
        """Return all texts of the split, or of another one."""
        split = split or self.split
        if split not in self._kept:
            part = self._part
            found = load_examples(self.name, split, self.damaged)
            if not found:
                raise GenaxError(f"split {split!r} of {self.name} has no examples; choose another.")
            self._kept[split] = [example[part] for example in found]
        return self._kept[split]

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the texts and everything that changes a row.

        Raises GenaxError as `rows` does: a run asks for this before anything is computed.
        """
        content = fingerprint_examples(self.name, self.split, self.damaged)
        self.rows()
        given = (self.characters,) if self.characters else ()
        how = (identity(self.name), self.context, self.vocab_size, self.split, self._part, *given)
        return hashlib.sha256(f"{how} {content}".encode()).hexdigest()

    def get_tokenizer(self, save: bool = False) -> Tokenizer:
        """Return the characters of the run, or those that a new run would have."""
        most = max(0, self.vocab_size - SPECIALS)
        return run_tokenizer(self._workdir, "characters", most, self._new, save)

    def rows(self, save: bool = False) -> Int[np.ndarray, "n t"]:
        """Return all rows, in the order of the texts.

        Raises GenaxError for a text that is too long, and for more characters than vocab_size
        holds.
        """
        tokenizer = self.get_tokenizer(save)
        key = f"rows {tokenizer.to_json()}"
        if key not in self._kept:
            self._kept[key] = self._encoded(tokenizer)
        return self._kept[key]

    def decode(self, rows: Int[np.ndarray, "n t"]) -> list[str]:
        """Return the text of each row, what is between its beginning and its first END."""
        tokenizer = self.get_tokenizer()
        found = []
        for row in np.asarray(rows):
            (ends,) = np.nonzero(row == END)
            line = row[: ends[0]] if len(ends) else row
            found.append(tokenizer.decode(line[line >= SPECIALS] - SPECIALS))
        return found

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless shuffled batches "tokens" [b, context], "id" [b]."""
        rows = self.rows(save=shard.number == 0)
        return pipeline.train_batches(
            lambda ids: _take(rows, ids), len(rows), batch_size, seed, shard
        )

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Mapping[str, np.ndarray]]:
        """Every row once, in order, with "mask"."""
        rows = self.rows(save=shard.number == 0)
        return pipeline.evaluation_batches(
            lambda ids: _take(rows, ids), len(rows), batch_size, shard
        )

    @property
    def _part(self) -> str:
        fields = example_set(self.name, self.damaged).fields
        texts = [name for name, field in fields.items() if isinstance(field, Text)]
        if self.text in texts or (not self.text and len(texts) == 1):
            return self.text or texts[0]
        raise GenaxError(
            f"{self.name} has no text {self.text!r}; it has {listed(fields)}; name one of its "
            "texts, in an experiment by config.text."
        )

    def _make(self) -> Tokenizer:
        if self.characters:
            return Characters("".join(sorted({*self.characters})))
        held_out = self.texts() if not self.split.startswith("train") else []
        return train_tokenizer("characters", self.texts("train"), self.vocab_size, held_out)

    def _encoded(self, tokenizer: Tokenizer) -> Int[np.ndarray, "n t"]:
        texts = self.texts()
        lengths = np.array([len(text) for text in texts])
        if lengths.max() + 2 > self.context:
            longest = texts[int(lengths.argmax())]
            raise GenaxError(
                f"split {self.split!r} of {self.name} has {longest!r:.80} of {lengths.max()} "
                f"characters, and a row of {self.context} holds {self.context - 2}; set "
                f"config.context to {lengths.max() + 2} or above."
            )
        rows = np.full((len(texts), self.context), PAD, np.min_scalar_type(self.vocab_size))
        places = np.arange(self.context)
        inside = (places >= 1) & (places <= lengths[:, None])
        joined = "".join(texts)
        unknown = {*joined} - {*tokenizer.decode(np.arange(tokenizer.size))}
        if unknown:
            raise GenaxError(
                f"split {self.split!r} of {self.name} has the characters "
                f"{''.join(sorted(unknown))!r:.80}, which this run does not; name all, in an "
                "experiment by config.characters, or start a new run with those of the data."
            )
        rows[inside] = tokenizer.encode(joined) + SPECIALS
        rows[:, 0] = BEGIN
        rows[np.arange(len(texts)), lengths + 1] = END
        return rows


def _take(rows: Int[np.ndarray, "n t"], ids: np.ndarray) -> dict[str, np.ndarray]:
    return {"tokens": rows[ids].astype(np.int32)}
