"""Text sets as documents by split, held in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from genax.core.errors import GenaxError
from genax.data.fields import Text, listed
from genax.data.sets.catalogue import used_by
from genax.data.sets.named import open_set
from genax.data.sets.split_slices import take_split
from genax.data.sets.tfds_sets import PREFIX


def load_corpus(name: str, damaged: str = "refuse") -> Mapping[str, list[str]]:
    """Return all documents of a text set, by split ("train", "validation").

    A set that has no split of its own (Shakespeare, a file of one's own) is split by position, as
    nanoGPT does: the first 90% of the characters train, wherever a document is cut. If a set has a
    test split but none to validate (IMDB), its test split validates. "tfds:NAME" keeps its splits.

    damaged: see `open_set`.
    Raises GenaxError for an unknown name, a set of another kind, or a set that is not prepared.
    """
    found = open_set(name, damaged)
    if not isinstance(found.fields.get("text"), Text):
        if found.catalogued:
            raise GenaxError(f"{name} is a set of {used_by(found.fields)}.")
        raise GenaxError(
            f'{name} has no feature "text" that is a text; it has {listed(found.fields)}; choose a '
            "set of documents, or call the part that holds them text."
        )
    splits = {s: [example["text"] for example in found.examples(s)] for s in found.splits}
    if "validation" in splits or name.startswith(PREFIX):
        return splits
    if "test" in splits:
        return {"train": splits["train"], "validation": splits["test"]}
    return split_by_position(splits["train"])


def load_splits(name: str, needed: str, damaged: str = "refuse") -> Mapping[str, list[str]]:
    """Return what `load_corpus` does. Raises GenaxError if it has no split or slice `needed`."""
    corpus = load_corpus(name, damaged)
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
