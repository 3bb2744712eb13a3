"""BLEU and ROUGE of what is written, against the texts of the data."""

import numpy as np
import pytest

from genax.data.text import token_data
from genax.data.text.text_pairs import TextPairs
from genax.evaluation.generated_text import bleu_scores, rouge_scores

EXAMPLES = [
    {"source": f"the {a} {b} house by the sea is mine", "target": f"my {a} {b} house is by the sea"}
    for a in ("red", "old", "tiny")
    for b in ("wooden", "stone")
]


@pytest.fixture
def data(monkeypatch):
    monkeypatch.setattr(token_data, "load_examples", lambda name, split, *_: EXAMPLES)
    return TextPairs("set", 40, 320, "test")


def rows(data, texts):
    tokens = data.encode_sources(data.get_tokenizer(), texts)
    return {"tokens": tokens, "index": np.arange(len(texts))}


def test_bleu(data):
    evaluator = bleu_scores(lambda nets, batch: None, data, None)
    perfect = evaluator.summarize(rows(data, [e["target"] for e in EXAMPLES]), None)
    copied = evaluator.summarize(rows(data, [e["source"] for e in EXAMPLES]), None)
    assert perfect["bleu"] == pytest.approx(100)
    assert 0 < copied["bleu"] < 60
    assert copied["bleu"] == pytest.approx(copied["copy_bleu"])


def test_rouge(data):
    evaluator = rouge_scores(lambda nets, batch: None, data, None)
    scores = evaluator.summarize(rows(data, ["my house"] * len(EXAMPLES)), None)
    # Two of two words are right, of eight that were wanted.
    assert scores["rouge1"] == scores["rougeL"] == pytest.approx(100 * 2 * 1 * 0.25 / 1.25)
    assert scores["rouge2"] == 0
    # The first eight words, of which only the second "the" is not wanted.
    assert scores["lead_rouge1"] == pytest.approx(100 * 7 / 8)
