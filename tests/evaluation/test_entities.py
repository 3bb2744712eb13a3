"""F1 of entities, not of words."""

import numpy as np

from genax.evaluation.entities import entity_scores

NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def test_entities_count_whole_and_rows_of_a_sentence_are_joined():
    labels = np.array([[-1, 1, 2, -1, 0, 3], [-1, 4, -1, 0, -1, -1], [-1, 1, 0, 3, 0, -1]])
    found = np.array([[9, 1, 2, 9, 0, 3], [9, 4, 9, 0, 9, 9], [9, 1, 2, 3, 0, 9]])
    rows = {"labels": labels, "found": found, "sentence": np.array([0, 0, 1])}
    scores = entity_scores(lambda nets, batch: None, NAMES).summarize(rows, None)
    # Right: a person, a place over two rows, a place. Wrong: a person that ends too late.
    assert scores["precision"] == scores["recall"] == scores["f1"] == 3 / 4
    assert scores["words"] == 10
