"""Two pieces of text that follow each other, or do not: what BERT is pretrained on."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import jax
import numpy as np

from genax.core.data import BatchIterator, Shard
from genax.core.errors import GenaxError
from genax.data import pipeline
from genax.data.pipeline import Batch
from genax.data.sets.named import identity, open_set
from genax.data.sets.split_slices import take_split
from genax.data.shuffling import generator
from genax.data.text.corpora import fingerprint_corpus, load_splits, training_documents
from genax.data.text.run_tokenizer import Tokenized, pretrained_tokenizer, run_tokenizer
from genax.data.text.token_data import spec
from genax.data.text.tokenizer_training import train_tokenizer
from genax.data.text.tokenizers import Subwords, Tokenizer, join_tokens
from genax.settings.ranges import COUNT, check_fields

# A line ends a sentence, as does a full stop and its like before a space.
_END = re.compile(r"\n+|(?<=[.!?])\s+")


class _Passages(NamedTuple):
    """Runs of sentences that fit a row: tokens of all, where sentences begin, and the passages.

    sentences: int [n + 1], places in tokens. passages: int [p, 4], document, first and last + 1
    sentence, and last + 1 sentence of the document.
    """

    tokens: np.ndarray
    sentences: np.ndarray
    passages: np.ndarray


@dataclass(frozen=True)
class SentencePairs(Tokenized):
    """[CLS] A [SEP] B [SEP], with B what follows A half of the time: Devlin et al. 2018, app. A.2.

    A is one or more sentences, B as many of the tokens after them as fill the row or, from another
    document, after sentences drawn in the same way. "tokens", "segments" int32 [context], "real"
    and "maskable" (no special token) bool [context], "follows" int32 [] (1 if B follows).
    name, split: of a text set; a split may be a slice such as "train[:10%]". Documents are cut into
    sentences at line ends and full stops, and those that do not fill a row are left out. A split of
    one document is cut into ten, so that B may come from elsewhere.
    vocab_size: of the WordPiece tokenizer that is trained on it. limit: evaluate so many passages.
    damaged: what is done with files of one's own that cannot be read, see `open_set`.
    pretrained: a folder whose tokenizer a new run gets; "" trains one.
    """

    name: str
    context: int
    vocab_size: int
    split: str = "train"
    limit: int | None = None
    damaged: str = field(default="refuse", repr=False)
    # The run keeps the tokenizer.
    pretrained: str = field(default="", repr=False)

    def __post_init__(self):
        # [CLS] A [SEP] B [SEP]
        check_fields(self, context=replace(COUNT, least=5), vocab_size=COUNT, limit=COUNT)

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one row's arrays; reads no data."""
        row = (self.context,)
        flags = {"real": spec(row, np.bool_), "maskable": spec(row, np.bool_)}
        return {"tokens": spec(row), "segments": spec(row), **flags, "follows": spec(())}

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the corpus and everything that changes a row.

        Raises GenaxError if the split has fewer than two documents that may fill a row.
        """
        # A token is one character or more.
        if sum(len(text) >= self.context - 3 for text in self._documents) < 2:
            raise self._too_few()
        how = replace(self, name=identity(self.name))
        return hashlib.sha256(f"{how!r} {fingerprint_corpus(self._corpus)}".encode()).hexdigest()

    @property
    def says(self) -> Sequence[str]:
        """What a run tells its user of the set."""
        return open_set(self.name, self.damaged).says

    def get_tokenizer(self, save: bool = False) -> Subwords:
        """The run's tokenizer, or the one that a new run would have; see `run_tokenizer`."""
        found = run_tokenizer(self._workdir, "wordpiece", self.vocab_size, self._new, save)
        assert isinstance(found, Subwords)
        return found

    def _make(self) -> Tokenizer:
        if self.pretrained:
            return pretrained_tokenizer(self.pretrained)
        documents = training_documents(self.name, self._corpus)
        return train_tokenizer("wordpiece", documents, self.vocab_size)

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless shuffled batches; where A ends and what B is are drawn anew at each reading."""
        tokenizer = self.get_tokenizer(save=shard.number == 0)
        passages = self._passages(tokenizer)

        def pair(batch: Batch, positions: np.ndarray) -> Batch:
            return self._rows(tokenizer, passages, batch["passage"], positions, seed)

        return pipeline.train_batches(
            lambda ids: {"passage": ids}, len(passages.passages), batch_size, seed, shard, pair
        )

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Mapping[str, np.ndarray]]:
        """Every passage once, always with the same A and B, with "mask"."""
        tokenizer = self.get_tokenizer(save=shard.number == 0)
        passages = self._passages(tokenizer)
        size = min(self.limit or len(passages.passages), len(passages.passages))
        # Neighbouring passages are much alike, so that the first ones would not stand for all.
        spread = np.linspace(0, len(passages.passages), size, endpoint=False).astype(np.int64)

        def read(ids: np.ndarray) -> Batch:
            return self._rows(tokenizer, passages, spread[ids], spread[ids], 0)

        return pipeline.evaluation_batches(read, size, batch_size, shard)

    def _passages(self, tokenizer: Subwords) -> _Passages:
        key = tokenizer.to_json()
        if key not in self._kept:
            self._kept[key] = self._cut(tokenizer, self._documents)
        return self._kept[key]

    @cached_property
    def _corpus(self) -> Mapping[str, list[str]]:
        return load_splits(self.name, self.split, self.damaged)

    @property
    def _documents(self) -> list[str]:
        found = take_split(self.name, self.split, self._corpus)
        return _parts(found[0]) if len(found) == 1 else found

    def _too_few(self) -> GenaxError:
        return GenaxError(
            f"split {self.split!r} of {self.name} has fewer than two documents that fill a context "
            f"of {self.context} and have two sentences that fit it; choose another context or "
            "another set."
        )

    def _cut(self, tokenizer: Subwords, documents: list[str]) -> _Passages:
        texts, owners = [], []
        for number, document in enumerate(documents):
            found = [text for text in _END.split(document) if text.strip()]
            texts += found
            owners += [number] * len(found)
        room = self.context - 3
        rows = [row[:room] for row in tokenizer.encode_all(texts)]
        ends = np.searchsorted(owners, np.arange(len(documents)), side="right")
        passages, first, size = [], 0, 0
        for number, row in enumerate(rows):
            if number > first and (owners[number] != owners[first] or size + len(row) > room):
                passages.append((owners[first], first, number, ends[owners[first]]))
                first, size = number, 0
            size += len(row)
        if rows:
            passages.append((owners[first], first, len(rows), len(rows)))
        starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        pairs = np.array(passages, np.int64).reshape(-1, 4)
        full = starts[pairs[:, 3]] - starts[pairs[:, 1]] >= room
        pairs = pairs[full & (pairs[:, 2] - pairs[:, 1] > 1)]
        if len(np.unique(pairs[:, 0])) < 2:
            raise self._too_few()
        return _Passages(join_tokens(rows, tokenizer), starts, pairs)

    def _rows(self, tokenizer, passages, numbers, positions, seed) -> Batch:
        names = ("[CLS]", "[SEP]", "[PAD]")
        first, last, pad = (tokenizer.special(name) for name in names)
        batch = {
            name: np.zeros((len(numbers), *s.shape), s.dtype) for name, s in self.element.items()
        }
        batch["tokens"][:] = pad
        for row, (number, position) in enumerate(zip(numbers, positions, strict=True)):
            a, b, follows = self._draw(passages, number, generator(int(position), seed))
            middle, end = len(a) + 2, len(a) + len(b) + 3
            batch["tokens"][row, :end] = [first, *a, last, *b, last]
            batch["segments"][row, middle:end] = 1
            batch["real"][row, :end] = True
            batch["maskable"][row, 1 : middle - 1] = True
            batch["maskable"][row, middle : end - 1] = True
            batch["follows"][row] = follows
        return batch

    def _draw(self, table: _Passages, number: int, rng: np.random.Generator):
        """A, B and whether B follows; all rows are full, since their length would tell."""
        room = self.context - 3
        a, b = self._cut_in_two(table, number, rng)
        follows = int(rng.random() < 0.5)
        document = other = table.passages[number, 0]
        tries = 0
        # Where no document is long enough, a shorter B has to do.
        while not follows and (other == document or (len(a) + len(b) < room and tries < 100)):
            chosen = int(rng.integers(len(table.passages)))
            other = table.passages[chosen, 0]
            _, b = self._cut_in_two(table, chosen, rng)
            tries += 1
        return a, b[: room - len(a)], follows

    def _cut_in_two(self, table: _Passages, number: int, rng: np.random.Generator):
        """A passage up to a place between two sentences, and what follows in the document."""
        _, first, last, end = table.passages[number]
        cut = rng.integers(first + 1, last)
        at = table.sentences
        return table.tokens[at[first] : at[cut]], table.tokens[at[cut] : at[end]]


def _parts(document: str, count: int = 10) -> list[str]:
    """Return a document in parts of about one length, each from the end of a line on."""
    ends = [document.find("\n", number * len(document) // count) + 1 for number in range(1, count)]
    places = sorted({0, len(document), *ends})
    return [document[start:stop] for start, stop in itertools.pairwise(places)]
