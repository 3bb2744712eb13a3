"""Correlations and squared errors of predicted numbers."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from genax.evaluation.regression import correlations, regression_scores

FOUND, LABEL = [1.0, 2.0, 3.0, 3.0, 10.0], [0.5, 2.5, 2.5, 3.0, 4.0]


def test_scores_by_hand():
    evaluator = regression_scores(lambda nets, batch: jnp.asarray(FOUND))
    rows = evaluator.function(None, {"label": jnp.asarray(LABEL)})
    scores = evaluator.summarize({name: np.asarray(row) for name, row in rows.items()}, None)
    a, b = np.array(FOUND) - np.mean(FOUND), np.array(LABEL) - np.mean(LABEL)
    # Ranks: 1, 2, 3.5, 3.5, 5 and 1, 2.5, 2.5, 4, 5.
    c, d = np.array([-2, -1, 0.5, 0.5, 2]), np.array([-2, -0.5, -0.5, 1, 2])
    assert scores == pytest.approx(
        {
            "pearson": a @ b / math.sqrt(a @ a * (b @ b)),
            "spearman": c @ d / math.sqrt(c @ c * (d @ d)),
            "mean_squared_error": (0.25 + 0.25 + 0.25 + 0 + 36) / 5,
        }
    )


@pytest.mark.parametrize("found", [[0.1, 0.1, 0.1], [1.0, math.nan, 2.0]])
def test_what_does_not_correlate(found):
    scores = correlations(np.array(found), np.array([1.0, 2.0, 3.0]))
    assert all(math.isnan(score) for score in scores.values())
