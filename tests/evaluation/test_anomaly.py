"""Detection of anomalies: curves and scores as scikit-learn has them, and what sets thresholds."""

from __future__ import annotations

import math
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

from genax.core.data import Shard
from genax.data import SeriesData
from genax.data.selection import Selection
from genax.data.standardised import Standardised
from genax.evaluation.anomaly import (
    alarm_scores,
    auroc,
    average_precision,
    detection,
    precision_recall_curve,
    roc_curve,
)
from genax.running.evaluate import evaluate
from tests.core.toys import line_task

RNG = np.random.default_rng(0)
NORMAL = Selection(classes=(0,), every=4)


@pytest.mark.parametrize("levels", [0, 5])
def test_curves_and_areas_are_those_of_scikit_learn(levels):
    """levels: of the scores, which then have equals; 0 is real numbers."""
    anomalous = RNG.random(400) < 0.3
    scores = RNG.normal(size=400) + anomalous
    scores = np.round(scores * levels) if levels else scores
    rates = metrics.roc_curve(anomalous, scores, drop_intermediate=False)[:2]
    np.testing.assert_allclose(roc_curve(scores, anomalous), rates, atol=1e-12)
    precision, recall, _ = metrics.precision_recall_curve(anomalous, scores)
    # From the lowest threshold up, and a last point that no threshold reaches.
    expected = recall[-2::-1], precision[-2::-1]
    np.testing.assert_allclose(precision_recall_curve(scores, anomalous), expected, atol=1e-12)
    assert auroc(scores, anomalous) == pytest.approx(metrics.roc_auc_score(anomalous, scores))
    mean = metrics.average_precision_score(anomalous, scores)
    assert average_precision(scores, anomalous) == pytest.approx(mean)
    threshold = float(np.quantile(scores, 0.6))
    alarms = scores > threshold
    assert alarm_scores(scores, anomalous, threshold) == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(anomalous, alarms),
            "precision": metrics.precision_score(anomalous, alarms),
            "recall": metrics.recall_score(anomalous, alarms),
            "f1": metrics.f1_score(anomalous, alarms),
        }
    )


def test_known_cases():
    anomalous = np.array([False, False, True, True])
    assert auroc(np.arange(4.0), anomalous) == 1
    assert auroc(-np.arange(4.0), anomalous) == 0
    assert auroc(np.zeros(4), anomalous) == 0.5
    assert average_precision(np.zeros(4), anomalous) == 0.5
    for one_kind in (np.zeros(4, bool), np.ones(4, bool)):
        assert math.isnan(auroc(np.arange(4.0), one_kind))
        assert math.isnan(average_precision(np.arange(4.0), one_kind))
    lost = np.array([0.0, 1.0, 2.0, np.nan])
    assert math.isnan(auroc(lost, anomalous))
    assert math.isnan(average_precision(lost, anomalous))
    assert all(math.isnan(score) for score in alarm_scores(lost, anomalous, 1.0).values())
    assert math.isnan(alarm_scores(np.zeros(4), anomalous, math.nan)["accuracy"])
    silent = alarm_scores(np.zeros(4), anomalous, 1.0)
    assert silent == {"accuracy": 0.5, "precision": 0, "recall": 0, "f1": 0}


def test_the_threshold_is_that_of_held_out_normals(tmp_path):
    """Whatever the test set is, and without one example of training."""
    train = SeriesData("waves", select=NORMAL)
    held_out = Standardised(SeriesData("waves", select=NORMAL.validation), train)

    def score(nets, batch):
        # Waves of another period have little of the second harmonic.
        power = jnp.abs(jnp.fft.rfft(batch["image"][..., 0, 0], axis=-1))[:, 2]
        return {"period": -power, "index": batch["index"].astype(jnp.float32)}

    found = {}
    for split in ("test", "test[:300]"):
        test = Standardised(SeriesData("waves", split), train)
        seen = detection(score, test, held_out, (0,), 0.9, picture="drawn")
        task = replace(line_task(), evaluators={"seen": seen})
        found[split] = evaluate(task, {"params": {}}, None, 64, tmp_path)
    whole, half = found.values()
    (batch,) = held_out.evaluate(92, Shard())
    power = np.abs(np.fft.rfft(batch["image"][..., 0, 0]))[:, 2]
    assert whole["seen/period/threshold"] == pytest.approx(np.quantile(-power, 0.9), rel=1e-4)
    assert half["seen/period/threshold"] == pytest.approx(whole["seen/period/threshold"])
    (batch,) = Standardised(SeriesData("waves", "test"), train).evaluate(600, Shard())
    power = np.abs(np.fft.rfft(batch["image"][..., 0, 0]))[:, 2]
    expected = metrics.roc_auc_score(batch["label"] != 0, -power)
    assert whole["seen/period/auroc"] == pytest.approx(expected, abs=1e-5)
    expected = ((-power > whole["seen/period/threshold"]) == (batch["label"] != 0)).mean()
    assert whole["seen/period/accuracy"] == pytest.approx(expected, abs=2e-3)
    assert {key: half.said["seen"][key] for key in ("test", "anomalous", "held_out_normals")} == {
        "test": 300,
        "anomalous": 150,
        "held_out_normals": 92,
    }
    with Image.open(tmp_path / "evaluation" / "drawn.png") as picture:
        assert picture.size[0] == 2 * picture.size[1]
