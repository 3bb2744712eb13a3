"""Exact match and F1 as SQuAD counts them; the best span."""

import jax.numpy as jnp
import numpy as np
import pytest

from genax.evaluation.answers import best_spans, exact_match, word_f1


@pytest.mark.parametrize(
    ("answer", "truths", "exact", "f1"),
    [
        ("the Eiffel Tower", ["Eiffel tower!"], 1, 1),
        ("in 1887, Paris", ["Paris", "1887"], 0, 1 / 2),
        ("a cat sat on a mat", ["the cat sat", "mouse"], 0, 2 / 3),
        ("red red blue", ["red blue blue"], 0, 2 / 3),
        ("", ["nothing"], 0, 0),
        ("the", [""], 1, 1),
    ],
)
def test_words_are_counted_without_case_punctuation_and_articles(answer, truths, exact, f1):
    assert exact_match(answer, truths) == exact
    assert word_f1(answer, truths) == pytest.approx(f1)


def test_best_spans_lie_inside_and_in_order():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20, 9, 2)).astype(np.float32)
    inside = np.arange(9) >= 3
    starts, ends, scores = best_spans(
        jnp.asarray(logits), jnp.broadcast_to(inside, (20, 9)), most=3
    )
    for row, start, end, score in zip(logits, starts, ends, scores, strict=True):
        spans = {
            (s, e): row[s, 0] + row[e, 1] for s in range(3, 9) for e in range(s, min(9, s + 3))
        }
        assert (int(start), int(end)) == max(spans, key=spans.get)
        assert score == pytest.approx(max(spans.values()))
