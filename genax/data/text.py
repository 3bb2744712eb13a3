"""Text as training data: random windows of one long string of tokens, as nanoGPT samples them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np
from etils import epath

from genax.core.data import BatchIterator, Shard
from genax.core.errors import GenaxError
from genax.data import pipeline
from genax.data.corpora import load_corpus
from genax.data.pipeline import Batch
from genax.data.tokenizers import FILE, Tokenizer, load_tokenizer, save_tokenizer, train_tokenizer


@dataclass(frozen=True)
class TextData:
    """Windows of text: "tokens" int32 [context + 1], the last `context` being the targets.

    name: a text set of `genax data list`. tokenizer: "bytes", "characters" or "bpe".
    vocab_size: at least as many as the tokenizer has; "bpe" is trained to it.
    split: "train" or "validation". limit: evaluate on the first `limit` windows only.
    A "tfds:NAME" set has its own splits; its feature "text" is read.
    """

    name: str
    tokenizer: str = "characters"
    context: int = 64
    vocab_size: int = 256
    split: str = "train"
    limit: int | None = None
    _encoded: dict[str, np.ndarray] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one window; reads no data."""
        return {"tokens": jax.ShapeDtypeStruct((self.context + 1,), np.int32)}

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the whole corpus and everything that changes a window or the order."""
        digest = hashlib.sha256()
        how = (self.name, self.tokenizer, self.context, self.vocab_size, self.split, self.limit)
        digest.update(repr(how).encode())
        for split, documents in sorted(self._corpus.items()):
            digest.update(f"{split} {len(documents)}".encode())
            for document in documents:
                digest.update(hashlib.sha256(document.encode(errors="surrogatepass")).digest())
        return digest.hexdigest()

    def train(self, batch_size: int, seed: int, shard: Shard, workdir: Any = None) -> BatchIterator:
        """Endless batches "tokens" [b, context + 1] and "id" [b], the window's first token.

        Windows start anywhere, each start once before any comes again. The tokenizer is loaded
        from `workdir`, or made and saved there; without a workdir it is made and not saved.
        """
        tokens = self._tokens(self.get_tokenizer(workdir, save=shard.number == 0))
        starts = len(tokens) - self.context
        return pipeline.train_batches(
            lambda ids: self._windows(tokens, ids), starts, batch_size, seed, shard
        )

    def evaluate(
        self, batch_size: int, shard: Shard, workdir: Any = None
    ) -> Iterator[Mapping[str, np.ndarray]]:
        """Consecutive windows, so that every token but the first is a target once; then "mask".

        The remainder that fills no window at the end of the split is left out.
        """
        tokens = self._tokens(self.get_tokenizer(workdir, save=shard.number == 0))
        windows = (len(tokens) - 1) // self.context
        windows = windows if self.limit is None else min(self.limit, windows)
        batches = pipeline.evaluation_batches(
            lambda ids: self._windows(tokens, ids * self.context), windows, batch_size, shard
        )
        return ({**batch, "id": batch["id"] * self.context} for batch in batches)

    def get_tokenizer(self, workdir: Any = None, save: bool = False) -> Tokenizer:
        """The run's tokenizer, or the one that a new run would make, saved where `save` says so.

        Raises GenaxError where the run's is of another kind, or has more tokens than vocab_size.
        """
        path = None if workdir is None else epath.Path(workdir) / FILE
        if path is not None and path.exists():
            tokenizer = load_tokenizer(workdir)
            if tokenizer.kind != self.tokenizer:
                raise GenaxError(
                    f"{path} is a tokenizer of kind {tokenizer.kind!r} but the experiment asks for "
                    f"{self.tokenizer!r}; use another workdir, or the old setting."
                )
            self._check_size(tokenizer)
            return tokenizer
        tokenizer = self._new_tokenizer
        self._check_size(tokenizer)
        if path is not None and save:
            save_tokenizer(tokenizer, workdir)
        return tokenizer

    @cached_property
    def _corpus(self) -> Mapping[str, list[str]]:
        corpus = load_corpus(self.name)
        if self.split not in corpus:
            raise GenaxError(
                f"{self.name} has no split {self.split!r}; it has {', '.join(sorted(corpus))}."
            )
        return corpus

    @cached_property
    def _new_tokenizer(self) -> Tokenizer:
        corpus = self._corpus
        held_out = [text for split in corpus if split != "train" for text in corpus[split]]
        return train_tokenizer(self.tokenizer, corpus["train"], self.vocab_size, held_out)

    def _check_size(self, tokenizer: Tokenizer) -> None:
        if tokenizer.size > self.vocab_size:
            raise GenaxError(
                f"the {tokenizer.kind!r} tokenizer of {self.name} has {tokenizer.size} tokens, "
                f"more than vocab_size={self.vocab_size}; set it to {tokenizer.size} or above."
            )

    def _tokens(self, tokenizer: Tokenizer) -> np.ndarray:
        key = tokenizer.to_json()
        if key not in self._encoded:
            dtype = np.min_scalar_type(tokenizer.size - 1)
            parts = tokenizer.encode_all(self._corpus[self.split])
            self._encoded[key] = np.concatenate([part.astype(dtype) for part in parts])
        tokens = self._encoded[key]
        if len(tokens) <= self.context:
            raise GenaxError(
                f"the {self.split} split of {self.name} has {len(tokens)} tokens, too few for a "
                f"context of {self.context}; choose a smaller context."
            )
        return tokens

    def _windows(self, tokens: np.ndarray, starts: np.ndarray) -> Batch:
        return {"tokens": tokens[starts[:, None] + np.arange(self.context + 1)].astype(np.int32)}
