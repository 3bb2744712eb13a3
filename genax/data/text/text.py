"""Text as training data: random windows of one long string of tokens, as nanoGPT samples them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np

from genax.core.data import BatchIterator, Shard
from genax.core.errors import GenaxError
from genax.data import pipeline
from genax.data.pipeline import Batch
from genax.data.sets.named import identity, open_set
from genax.data.sets.split_slices import take_split
from genax.data.text.corpora import fingerprint_corpus, load_splits, training_documents
from genax.data.text.run_tokenizer import Tokenized, pretrained_tokenizer, run_tokenizer
from genax.data.text.tokenizer_training import train_tokenizer
from genax.data.text.tokenizers import Tokenizer, join_tokens
from genax.settings.ranges import COUNT, check_fields

# Characters of a text whose tokenizer is trained in a second.
_SMALL = 1_000_000


@dataclass(frozen=True)
class TextData(Tokenized):
    """Windows of text: "tokens" int32 [context + 1], the last `context` being the targets.

    name: a text set of `genax data list`. tokenizer: "bytes", "characters" or "bpe".
    vocab_size: at least as many as the tokenizer has; "bpe" is trained to it.
    split: "train" or "validation", or a slice of documents such as "train[:10%]"; a tokenizer is
    made of the whole set all the same. limit: evaluate on the first `limit` windows only.
    A "tfds:NAME" set has its own splits; its feature "text" is read. damaged: what is done with
    files of one's own that cannot be read, see `open_set`.
    pretrained: a folder whose tokenizer a new run gets, of the kind `tokenizer`; "" makes one.
    """

    name: str
    tokenizer: str = "characters"
    context: int = 64
    vocab_size: int = 256
    split: str = "train"
    limit: int | None = None
    damaged: str = "refuse"
    pretrained: str = ""

    def __post_init__(self):
        check_fields(self, context=COUNT, vocab_size=COUNT, limit=COUNT)

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one window; reads no data."""
        return {"tokens": jax.ShapeDtypeStruct((self.context + 1,), np.int32)}

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the whole corpus and everything that changes a window or the order.

        Raises GenaxError if the text has more characters than vocab_size, or fills no window. Of a
        large text that is only known when its tokenizer has been trained.
        """
        characters = sum(len(text) for texts in self._corpus.values() for text in texts)
        if self.tokenizer in ("bytes", "characters") or characters < _SMALL:
            # Before a run writes anything, so that the next try may have other settings.
            self._tokens(self.get_tokenizer())
        name = identity(self.name)
        how = (name, self.tokenizer, self.context, self.vocab_size, self.split, self.limit)
        return hashlib.sha256(f"{how} {fingerprint_corpus(self._corpus)}".encode()).hexdigest()

    @property
    def says(self) -> Sequence[str]:
        """What a run tells its user of the set."""
        return open_set(self.name, self.damaged).says

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless batches "tokens" [b, context + 1] and "id" [b], the window's first token.

        Windows start anywhere, each start once before any comes again. The tokenizer is that of
        the run's folder; see `opened`.
        """
        tokens = self._tokens(self.get_tokenizer(save=shard.number == 0))
        starts = len(tokens) - self.context
        return pipeline.train_batches(
            lambda ids: self._windows(tokens, ids), starts, batch_size, seed, shard
        )

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Mapping[str, np.ndarray]]:
        """Consecutive windows, so that every token but the first is a target once; then "mask".

        The remainder that fills no window at the end of the split is left out.
        """
        tokens = self._tokens(self.get_tokenizer(save=shard.number == 0))
        windows = (len(tokens) - 1) // self.context
        windows = windows if self.limit is None else min(self.limit, windows)
        batches = pipeline.evaluation_batches(
            lambda ids: self._windows(tokens, ids * self.context), windows, batch_size, shard
        )
        return ({**batch, "id": batch["id"] * self.context} for batch in batches)

    def get_tokenizer(self, save: bool = False) -> Tokenizer:
        """The run's tokenizer, or the one that a new run would make; see `run_tokenizer`."""
        return run_tokenizer(self._workdir, self.tokenizer, self.vocab_size, self._new, save)

    @cached_property
    def _corpus(self) -> Mapping[str, list[str]]:
        return load_splits(self.name, self.split, self.damaged)

    def _make(self) -> Tokenizer:
        if self.pretrained:
            return pretrained_tokenizer(self.pretrained)
        corpus = self._corpus
        held_out = [text for split in corpus if split != "train" for text in corpus[split]]
        documents = [] if self.tokenizer == "bytes" else training_documents(self.name, corpus)
        return train_tokenizer(self.tokenizer, documents, self.vocab_size, held_out)

    def _tokens(self, tokenizer: Tokenizer) -> np.ndarray:
        key = tokenizer.to_json()
        if key not in self._kept:
            documents = take_split(self.name, self.split, self._corpus)
            self._kept[key] = join_tokens(tokenizer.encode_all(documents), tokenizer)
        tokens = self._kept[key]
        if len(tokens) <= self.context:
            raise GenaxError(
                f"the {self.split} split of {self.name} has {len(tokens)} tokens, too few for a "
                f"context of {self.context}; choose a smaller context."
            )
        return tokens

    def _windows(self, tokens: np.ndarray, starts: np.ndarray) -> Batch:
        return {"tokens": tokens[starts[:, None] + np.arange(self.context + 1)].astype(np.int32)}
