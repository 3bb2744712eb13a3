"""F1 of named entities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Array

from genax.core import Evaluator, GenaxError
from genax.core.task import Batch
from genax.data.text.tagged_text import UNLABELLED


def entity_scores(logits: Callable[[Any, Batch], Array], names: Sequence[str]) -> Evaluator:
    """Precision, recall and F1 of whole entities: Tjong Kim Sang & De Meulder 2003, by seqeval.

    The data is `TaggedText`. The rows of a long sentence are joined.

    logits: (nets, batch) -> [b, t, labels].
    names: names of the labels ("O", "B-PER", ...).
    """
    return Evaluator(partial(tag_rows, logits=logits), partial(_summarize, names=tuple(names)))


def tag_rows(nets: Any, batch: Batch, logits: Callable[[Any, Batch], Array]) -> Mapping[str, Any]:
    """Return the likeliest label of each token beside the true one.

    batch: a batch of `TaggedText`.
    """
    return {
        "found": logits(nets, batch).argmax(-1),
        "labels": batch["labels"],
        "sentence": batch["sentence"],
    }


def tags_of_sentences(
    rows: Mapping[str, np.ndarray], what: str, names: Sequence[str]
) -> Mapping[int, list[str]]:
    """Return the names of the words' labels by sentence, its rows joined.

    rows: rows that `tag_rows` returns.
    what: "found" or "labels".
    names: names of the labels.
    """
    tags: dict[int, list[str]] = {int(number): [] for number in np.unique(rows["sentence"])}
    for row, labels, number in zip(rows[what], rows["labels"], rows["sentence"], strict=True):
        tags[int(number)] += [names[tag] for tag in row[labels != UNLABELLED]]
    return tags


def _summarize(rows: Mapping[str, np.ndarray], workdir: Any, names: Sequence[str]):
    try:
        from seqeval import metrics
    except ImportError as error:
        raise GenaxError('entity F1 needs seqeval: python -m pip install -e ".[text]".') from error
    truth = list(tags_of_sentences(rows, "labels", names).values())
    predicted = list(tags_of_sentences(rows, "found", names).values())
    return {
        "f1": metrics.f1_score(truth, predicted),
        "precision": metrics.precision_score(truth, predicted, zero_division=0),
        "recall": metrics.recall_score(truth, predicted),
        "words": float(sum(map(len, truth))),
    }
