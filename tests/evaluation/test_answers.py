"""Exact match and F1 as SQuAD counts them; the best span."""

import jax.numpy as jnp
import numpy as np
import pytest

from genax.data.text import token_data
from genax.data.text.answer_spans import AnswerSpans
from genax.evaluation.answers import answer_scores, best_answers, best_spans, exact_match, word_f1


@pytest.mark.parametrize(
    ("answer", "truths", "exact", "f1"),
    [
        ("the Eiffel Tower", ["Eiffel tower!"], 1, 1),
        ("in 1887, Paris", ["Paris", "1887"], 0, 1 / 2),
        ("a cat sat on a mat", ["the cat sat", "mouse"], 0, 2 / 3),
        ("red red blue", ["red blue blue"], 0, 2 / 3),
        ("", ["nothing"], 0, 0),
        ("the", [""], 1, 1),
        ("", [], 1, 1),
        ("the", [], 1, 1),
        ("cat", [], 0, 0),
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


TEXT = "red green blue"
LOGITS = lambda nets, batch: batch  # noqa: E731
# Right answers of four questions and the span found, with its score and that of no answer.
QUESTIONS = [
    ((), "red", 3.0, 4.0),
    ((), "green", 3.0, 2.0),
    (("green", "the"), "green blue", 3.0, 2.0),
    (("blue",), "blue", 3.0, 3.5),
]


@pytest.fixture
def answered(monkeypatch):
    """Data of these questions, and what was found: of the last one in two windows."""
    examples = [
        {
            "question": "what?",
            "context": f"{TEXT} the",
            "answers/text": answers,
            "answers/answer_start": tuple(f"{TEXT} the".index(answer) for answer in answers),
        }
        for answers, *_ in QUESTIONS
    ]
    monkeypatch.setattr(token_data, "load_examples", lambda name, split, *_: examples)
    data = AnswerSpans("set", 32, 100, "test")
    rows = data.rows()
    assert rows["row"].tolist() == [0, 1, 2, 3]
    spans = []
    for number, (_, text, *_) in enumerate(QUESTIONS):
        ends = range(32)
        spans += [
            next((s, e) for s in ends for e in ends if data.text_of(number, s, e) == (number, text))
        ]
    found = {
        "row": np.array([0, 1, 2, 3, 3]),
        "start": np.array([*(start for start, _ in spans), spans[0][0]]),
        "end": np.array([*(end for _, end in spans), spans[0][1]]),
        "score": np.array([*(score for *_, score, _ in QUESTIONS), 1.0]),
        "none": np.array([*(none for *_, none in QUESTIONS), 2.5]),
    }
    return data, found, examples


def test_no_answer_is_given_if_it_is_better_in_every_window(answered):
    data, found, _ = answered
    assert list(best_answers(found, data).values()) == ["red", "green", "green blue", "blue"]
    assert list(best_answers(found, data, 0.0).values()) == ["", "green", "green blue", "blue"]
    assert list(best_answers(found, data, 1.0).values()) == ["red", "green", "green blue", "blue"]
    assert list(best_answers(found, data, -0.75).values()) == ["", "green", "green blue", ""]


def test_no_answer_is_counted_as_by_squad_2(answered):
    """Scores computed by hand: 1 and 0 without an answer; 0 and 1, F1 2/3 and 1, with one."""
    data, found, examples = answered
    assert answer_scores(LOGITS, data).summarize(found, None) == pytest.approx(
        {
            "exact": 2 / 4,
            "f1": (1 + 0 + 2 / 3 + 1) / 4,
            "with_answer/exact": 1 / 2,
            "with_answer/f1": 5 / 6,
            "without_answer/exact": 1 / 2,
            "without_answer/f1": 1 / 2,
        }
    )
    # An answer of an article alone is none there.
    examples[0] |= {"answers/text": ("the",), "answers/answer_start": (len(TEXT) + 1,)}
    assert answer_scores(LOGITS, data).summarize(found, None)["exact"] == 2 / 4
    # Where all questions have answers, [CLS] is never one.
    examples[1] |= examples[0]
    scores = answer_scores(LOGITS, data).summarize(found, None)
    assert set(scores) == {"exact", "f1"}
    assert scores["exact"] == 1 / 4
