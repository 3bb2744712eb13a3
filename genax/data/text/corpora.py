"""Text sets as documents by split, held in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from genax.core.errors import GenaxError
from genax.data.fields import Text
from genax.data.sets.catalogue import known_set, used_by
from genax.data.sets.records import load_records
from genax.data.sets.split_slices import take_split
from genax.data.sets.tfds_fields import fields_of
from genax.data.sets.tfds_sets import PREFIX, tfds_builder


def load_corpus(name: str) -> Mapping[str, list[str]]:
    """Return all documents of a text set, by split ("train", "validation").

    A set that has no split of its own (Shakespeare) is split by position, as nanoGPT does: the
    first 90% of the characters train, wherever a document is cut. If a set has a test split but
    none to validate (IMDB), its test split validates. "tfds:NAME" keeps its splits.
    Raises GenaxError for an unknown name, a set of another kind, or a set that is not prepared.
    """
    if name.startswith(PREFIX):
        builder = tfds_builder(name)
        _check_text(name, builder.info.features)
        splits = builder.info.splits if builder.is_prepared() else ["train"]
        return {s: [example["text"] for example in load_records(name, s)] for s in splits}
    known = known_set(name)
    if not isinstance(known.fields.get("text"), Text):
        raise GenaxError(f"{name} is a set of {used_by(known.fields)}.")
    stored = {split: load_records(name, split) for split in known.counts if known.packages}
    examples = stored or known.read()
    found = {split: [one["text"] for one in examples[split]] for split in examples}
    if "validation" in found:
        return found
    if "test" in found:
        return {"train": found["train"], "validation": found["test"]}
    return split_by_position(found["train"])


def load_splits(name: str, needed: str) -> Mapping[str, list[str]]:
    """Return what `load_corpus` does. Raises GenaxError if it has no split or slice `needed`."""
    corpus = load_corpus(name)
    take_split(name, needed, corpus)
    return corpus


def training_documents(name: str, corpus: Mapping[str, list[str]]) -> list[str]:
    """Return what a tokenizer is trained on. Raises GenaxError if there is no split "train"."""
    if "train" not in corpus:
        raise GenaxError(
            f'{name} has no split "train", on which a tokenizer is trained; it has '
            f"{', '.join(sorted(corpus))}."
        )
    return corpus["train"]


def fingerprint_corpus(corpus: Mapping[str, Sequence[str]]) -> str:
    """Return the SHA-256 (hex) of all documents of a text set."""
    digest = hashlib.sha256()
    for split, documents in sorted(corpus.items()):
        digest.update(f"{split} {len(documents)}".encode())
        for document in documents:
            digest.update(hashlib.sha256(document.encode(errors="surrogatepass")).digest())
    return digest.hexdigest()


def split_by_position(documents: Sequence[str], fraction: float = 0.9) -> dict[str, list[str]]:
    """Return the first `fraction` of all characters as "train", the rest as "validation"."""
    left = int(fraction * sum(len(document) for document in documents))
    splits: dict[str, list[str]] = {"train": [], "validation": []}
    for document in documents:
        head, tail = document[:left], document[left:]
        left -= len(head)
        splits["train"] += [head] if head else []
        splits["validation"] += [tail] if tail else []
    return splits


def _check_text(name: str, features: Mapping[str, Any]) -> None:
    if "text" not in features:
        raise GenaxError(f'{name} has no feature "text"; it has {", ".join(features)}.')
    if not isinstance(fields_of(features).get("text"), Text):
        raise GenaxError(f'the feature "text" of {name} is no text but {features["text"]!r}.')
