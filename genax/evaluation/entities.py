"""F1 of named entities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Array

from genax.core import Evaluator, GenaxError
from genax.core.task import Batch
from genax.data.tagged_text import UNLABELLED


def entity_scores(logits: Callable[[Any, Batch], Array], names: Sequence[str]) -> Evaluator:
    """Precision, recall and F1 of whole entities: Tjong Kim Sang & De Meulder 2003, by seqeval.

    logits: (nets, batch) -> [b, t, labels]. names: of the labels ("O", "B-PER", ...). Data: as
    `TaggedText` gives it; the rows of a long sentence are joined.
    """
    return Evaluator(partial(_rows, logits=logits), partial(_summarize, names=tuple(names)))


def _rows(nets: Any, batch: Batch, logits: Callable[[Any, Batch], Array]) -> Mapping[str, Any]:
    return {
        "found": logits(nets, batch).argmax(-1),
        "labels": batch["labels"],
        "sentence": batch["sentence"],
    }


def _summarize(rows: Mapping[str, np.ndarray], workdir: Any, names: Sequence[str]):
    try:
        from seqeval import metrics
    except ImportError as error:
        raise GenaxError('entity F1 needs seqeval: python -m pip install -e ".[text]".') from error
    sentences = np.unique(rows["sentence"])

    def words(what: str) -> list[list[str]]:
        found: dict[int, list[str]] = {int(sentence): [] for sentence in sentences}
        for tags, labels, sentence in zip(
            rows[what], rows["labels"], rows["sentence"], strict=True
        ):
            found[int(sentence)] += [names[tag] for tag in tags[labels != UNLABELLED]]
        return list(found.values())

    truth, predicted = words("labels"), words("found")
    return {
        "f1": metrics.f1_score(truth, predicted),
        "precision": metrics.precision_score(truth, predicted, zero_division=0),
        "recall": metrics.recall_score(truth, predicted),
        "words": float(sum(map(len, truth))),
    }
