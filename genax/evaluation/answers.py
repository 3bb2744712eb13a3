"""Exact match and F1 of answers, as SQuAD counts them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from genax.core import Evaluator
from genax.core.task import Batch
from genax.data.answer_spans import AnswerSpans


def answer_scores(
    logits: Callable[[Any, Batch], Array], data: AnswerSpans, most: int = 30
) -> Evaluator:
    """Mean over questions of "exact" match and word "f1": Rajpurkar et al. 2016, section 6.1.

    logits: (nets, batch) -> [b, t, 2]. data: which the evaluation reads. Of all windows of a
    context, the span of the highest score answers; most: tokens in an answer.
    """

    def summarize(found: Mapping[str, np.ndarray], workdir: Any) -> Mapping[str, float]:
        best = best_answers(found, data)
        pairs = [(text, data.answers(number)) for number, text in best.items()]
        return {
            "exact": float(np.mean([exact_match(*pair) for pair in pairs])),
            "f1": float(np.mean([word_f1(*pair) for pair in pairs])),
        }

    return Evaluator(partial(span_rows, logits=logits, most=most), summarize)


def span_rows(
    nets: Any, batch: Batch, logits: Callable[[Any, Batch], Array], most: int = 30
) -> Mapping[str, Any]:
    """The best span of each window of `AnswerSpans`; see `answer_scores`."""
    inside = batch["real"] & (batch["segments"] == 1)
    # The [SEP] that ends the context is of segment 1 too.
    inside &= jnp.roll(inside, -1, axis=1)
    start, end, score = best_spans(logits(nets, batch), inside, most)
    return {"row": batch["row"], "start": start, "end": end, "score": score}


def best_answers(found: Mapping[str, np.ndarray], data: AnswerSpans) -> Mapping[int, str]:
    """By example, the text of its best window's span. found: as `span_rows` gives it."""
    best: dict[int, tuple[float, str]] = {}
    for row, start, end, score in zip(
        *(found[name].tolist() for name in ("row", "start", "end", "score")), strict=True
    ):
        number, text = data.text_of(row, start, end)
        if number not in best or score > best[number][0]:
            best[number] = (score, text)
    return {number: text for number, (_, text) in best.items()}


def best_spans(
    logits: Float[Array, "b t 2"], inside: Bool[Array, "b t"], most: int
) -> tuple[Int[Array, " b"], Int[Array, " b"], Float[Array, " b"]]:
    """Start, end (inclusive) and score of the best span: Devlin et al. 2018, section 4.2.

    The score is the start's logit plus the end's; spans lie inside and have at most `most` tokens.
    """
    length = logits.shape[1]
    logits = jnp.where(inside[..., None], logits, -1e9)
    scores = logits[:, :, None, 0] + logits[:, None, :, 1]
    start, end = jnp.arange(length)[:, None], jnp.arange(length)
    scores = jnp.where((start <= end) & (end - start < most), scores, -jnp.inf)
    scores = scores.reshape(len(logits), -1)
    place = scores.argmax(1)
    return place // length, place % length, scores.max(1)


def _words(text: str) -> list[str]:
    """Lower case, without punctuation and articles."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def exact_match(answer: str, truths: Sequence[str]) -> float:
    """1 where the answer has the words of one of the truths, in order."""
    return float(any(_words(answer) == _words(truth) for truth in truths))


def word_f1(answer: str, truths: Sequence[str]) -> float:
    """The best F1 of the answer's words with those of one of the truths."""

    def f1(truth: str) -> float:
        found, wanted = _words(answer), _words(truth)
        if not found or not wanted:
            return float(found == wanted)
        shared = sum((Counter(found) & Counter(wanted)).values())
        return 2 * shared / (len(found) + len(wanted))

    return max(map(f1, truths))
