"""Exact match and F1 of answers, as SQuAD 1.1 and 2.0 count them."""

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
from genax.data.text.answer_spans import AnswerSpans


def answer_scores(
    logits: Callable[[Any, Batch], Array],
    data: AnswerSpans,
    most: int = 30,
    threshold: float = 0.0,
) -> Evaluator:
    """Mean over questions of "exact" match and word "f1": Rajpurkar et al. 2016, section 6.1.

    The answer is the span of the highest score of all windows of a context. If questions of the
    data have no answer, "" answers those whose [CLS] is better by more than threshold (see
    `best_answers`). The means over each of the two kinds of questions are then scores too
    (Rajpurkar et al. 2018 and its published script).

    logits: (nets, batch) -> [b, t, 2].
    data: the data of the evaluation.
    most: maximum number of tokens in an answer.
    threshold: see `best_answers`.
    """

    def summarize(found: Mapping[str, np.ndarray], workdir: Any) -> Mapping[str, float]:
        if not data.has_unanswerable:
            best = best_answers(found, data)
            return _means([(text, data.answers(number)) for number, text in best.items()])
        pairs = [
            (text, [truth for truth in data.answers(number) if _words(truth)])
            for number, text in best_answers(found, data, threshold).items()
        ]
        scores = _means(pairs)
        for name, has_answer in (("with_answer", True), ("without_answer", False)):
            part = [pair for pair in pairs if bool(pair[1]) == has_answer]
            scores |= {f"{name}/{score}": mean for score, mean in _means(part).items()}
        return scores

    return Evaluator(partial(span_rows, logits=logits, most=most), summarize)


def _means(pairs: Sequence[tuple[str, Sequence[str]]]) -> dict[str, float]:
    """Return the mean scores of pairs (answer, right answers), and no score of no pairs."""
    scores = {"exact": exact_match, "f1": word_f1} if pairs else {}
    return {
        name: float(np.mean([score(*pair) for pair in pairs])) for name, score in scores.items()
    }


def span_rows(
    nets: Any, batch: Batch, logits: Callable[[Any, Batch], Array], most: int = 30
) -> Mapping[str, Any]:
    """Return each window's best span, its score, and the score of no answer, [CLS].

    batch: a batch of `AnswerSpans`.
    logits, most: see `answer_scores`.
    """
    inside = batch["real"] & (batch["segments"] == 1)
    # The [SEP] that ends the context also has segment 1.
    inside &= jnp.roll(inside, -1, axis=1)
    scores = logits(nets, batch)
    start, end, score = best_spans(scores, inside, most)
    none = scores[:, 0].sum(-1)
    return {"row": batch["row"], "start": start, "end": end, "score": score, "none": none}


def best_answers(
    found: Mapping[str, np.ndarray], data: AnswerSpans, threshold: float | None = None
) -> Mapping[int, str]:
    """Return the text of the best window's span, by example.

    found: rows that `span_rows` returns.
    threshold: "" answers an example if the score of [CLS], the lowest of all its windows, exceeds
      that of the span by more (Devlin et al. 2018, section 4.3, and published code). None means
      that "" never answers.
    """
    best: dict[int, tuple[float, str]] = {}
    nones: dict[int, float] = {}
    names = ("row", "start", "end", "score", "none")
    for row, start, end, score, none in zip(*(found[name].tolist() for name in names), strict=True):
        number, text = data.text_of(row, start, end)
        if number not in best or score > best[number][0]:
            best[number] = (score, text)
        nones[number] = min(none, nones.get(number, none))
    return {
        number: "" if threshold is not None and nones[number] - score > threshold else text
        for number, (score, text) in best.items()
    }


def best_spans(
    logits: Float[Array, "b t 2"], inside: Bool[Array, "b t"], most: int
) -> tuple[Int[Array, " b"], Int[Array, " b"], Float[Array, " b"]]:
    """Return start, end (inclusive) and score of the best span: Devlin et al. 2018, section 4.2.

    The score is the start's logit plus the end's. Spans lie inside and have at most `most` tokens.

    inside: [b, t], which tokens a span may have.
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
    """Return the words in lower case, without punctuation and articles."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def exact_match(answer: str, truths: Sequence[str]) -> float:
    """Return 1 if the answer has the words of one of the truths, in order, otherwise 0.

    If there is no truth, the result is 1 for an answer without words.
    """
    return float(any(_words(answer) == _words(truth) for truth in truths or [""]))


def word_f1(answer: str, truths: Sequence[str]) -> float:
    """Return the best F1 of the answer's words with those of one of the truths.

    If there is no truth, "" takes its place.
    """

    def f1(truth: str) -> float:
        found, wanted = _words(answer), _words(truth)
        if not found or not wanted:
            return float(found == wanted)
        shared = sum((Counter(found) & Counter(wanted)).values())
        return 2 * shared / (len(found) + len(wanted))

    return max(map(f1, truths or [""]))
