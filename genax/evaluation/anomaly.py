"""Detection of anomalies by a score that is higher the less an example is like normal ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float

from genax.core import Evaluator
from genax.core.data import Data
from genax.core.errors import GenaxError
from genax.core.task import Batch
from genax.data import Joined
from genax.evaluation.charts import Line, line_chart
from genax.evaluation.extractors import named
from genax.evaluation.written import write_picture

Scores = Float[np.ndarray, " n"]
Truth = Bool[np.ndarray, " n"]
Curve = tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]


def _counts(scores: Scores, anomalous: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true alarms at each threshold, the highest first, from none to all."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan))
    true = np.cumsum(anomalous[order])[ends]
    return np.r_[0, ends + 1 - true], np.r_[0, true]


def roc_curve(scores: Scores, anomalous: Truth) -> Curve:
    """Return the shares of normal and of anomalous examples above each threshold.

    They are the receiver operating characteristic's x and y, from (0, 0) to (1, 1). Examples of one
    score are above a threshold together.

    anomalous: whether each example is one. There is at least one of both kinds.
    """
    false, true = _counts(scores, anomalous)
    return false / false[-1], true / true[-1]


def precision_recall_curve(scores: Scores, anomalous: Truth) -> Curve:
    """Return recall and precision at each threshold that some score reaches, the highest first.

    anomalous: see `roc_curve`.
    """
    false, true = _counts(scores, anomalous)
    return true[1:] / true[-1], true[1:] / (true[1:] + false[1:])


def auroc(scores: Scores, anomalous: Truth) -> float:
    """Return the area under the ROC: how often an anomalous example has the higher score of two.

    Equal scores count half. It is NaN, which is no score, if all examples are of one kind or a
    score is not finite.
    """
    if not _tells(scores, anomalous):
        return math.nan
    return float(np.trapezoid(*roc_curve(scores, anomalous)[::-1]))


def average_precision(scores: Scores, anomalous: Truth) -> float:
    """Return sum_n (R_n - R_(n-1)) P_n over falling thresholds; NaN as in `auroc`."""
    if not _tells(scores, anomalous):
        return math.nan
    recall, precision = precision_recall_curve(scores, anomalous)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def _tells(scores: Scores, anomalous: Truth) -> bool:
    """Whether there are numbers of both kinds of examples to tell apart."""
    return bool(np.isfinite(scores).all() and anomalous.any() and not anomalous.all())


def alarm_scores(scores: Scores, anomalous: Truth, threshold: float) -> dict[str, float]:
    """Return how well the examples above a threshold are the anomalous ones.

    accuracy: share of examples that are told right.
    precision, recall, f1: of the alarms. Without an alarm the precision is 0.
    All are NaN if a score or the threshold is not finite.
    """
    if not (np.isfinite(scores).all() and math.isfinite(threshold)):
        return dict.fromkeys(("accuracy", "precision", "recall", "f1"), math.nan)
    alarms = scores > threshold
    right = float((alarms & anomalous).sum())
    precision, recall = right / max(1, alarms.sum()), right / max(1, anomalous.sum())
    return {
        "accuracy": float((alarms == anomalous).mean()),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / max(precision + recall, 1e-12),
    }


def detection(
    score: Callable[[Any, Batch], Mapping[str, Array]],
    test: Data,
    held_out: Data,
    normal: Sequence[int],
    quantile: float,
    picture: str = "anomaly",
    normals: str = "held-out normals",
) -> Evaluator:
    """Evaluator of scores by which anomalous test examples are told from normal ones.

    Its scores are, for each score of `score`, "<score>/auroc", "<score>/average_precision",
    "<score>/threshold" and those of `alarm_scores` at that threshold. The threshold is a quantile
    of the scores of normal examples that were held out of training, so no anomaly and no test
    example has a part in it. Curves of all scores are drawn to WORKDIR/evaluation.

    score: (nets, batch) -> [b] by name, higher for what is less normal.
    test: examples with a "label".
    held_out: normal examples that did not train.
    normal: the labels of normal examples.
    quantile: share of the held-out normal examples that lies at or below the threshold.
    picture: the name of the drawn file, without its suffix. Lines of NaN are left out.
    normals: what a result calls the examples that set the threshold.
    Raises GenaxError, before data is read, for test examples without labels.
    """
    if "label" not in test.element:
        raise GenaxError(
            f"{named(test)} has no 'label', which tells normal test examples from anomalous ones, "
            f"but {sorted(test.element)}; give a labelled test set."
        )

    def rows(nets: Any, batch: Batch) -> dict[str, Any]:
        found = {}
        for name in ("test", "held_out"):
            own = {
                key.removeprefix(f"{name}_"): value
                for key, value in batch.items()
                if key.startswith(f"{name}_")
            }
            own |= {key: batch[key] for key in ("index", "stage", "step") if key in batch}
            found[name] = {"scores": score(nets, own), "mask": own["mask"]}
        return found | {"label": batch["test_label"]}

    def parts(found: Any) -> tuple[dict[str, Any], dict[str, Any], Any]:
        kept = {name: found[name]["mask"] > 0 for name in ("test", "held_out")}
        scores, unseen = (
            {
                key: np.asarray(values, np.float64)[kept[name]]
                for key, values in found[name]["scores"].items()
            }
            for name in ("test", "held_out")
        )
        return scores, unseen, ~np.isin(found["label"][kept["test"]], normal)

    def summarize(found: Any, workdir: Any) -> dict[str, float]:
        scores, unseen, anomalous = parts(found)
        results: dict[str, float] = {}
        for name, values in scores.items():
            threshold = float(np.quantile(unseen[name], quantile))
            own = {
                "auroc": auroc(values, anomalous),
                "average_precision": average_precision(values, anomalous),
                "threshold": threshold,
                **alarm_scores(values, anomalous, threshold),
            }
            results |= {f"{name}/{key}": value for key, value in own.items()}
        drawn = {name: values for name, values in scores.items() if _tells(values, anomalous)}
        if drawn:
            write_picture(curves(drawn, anomalous), workdir, picture)
        return results

    def says(found: Any, workdir: Any) -> dict[str, Any]:
        _, unseen, anomalous = parts(found)
        return {
            "test": len(anomalous),
            "anomalous": int(anomalous.sum()),
            "held_out_normals": len(next(iter(unseen.values()))),
            "normal_labels": list(normal),
            "threshold": f"quantile {quantile} of the {normals}",
        }

    joined = Joined(test=test, held_out=held_out)
    return Evaluator(rows, summarize, data=joined, says=says)


def curves(scores: Mapping[str, Scores], anomalous: Truth) -> Any:
    """Draw the ROC and, to its right, precision against recall, a line for each score."""
    roc, pr = [], []
    for name, values in scores.items():
        area, mean = auroc(values, anomalous), average_precision(values, anomalous)
        roc.append(Line(f"{name} {area:.4f}", *roc_curve(values, anomalous)))
        pr.append(Line(f"{name} {mean:.4f}", *precision_recall_curve(values, anomalous)))
    left = line_chart(roc, "false positive rate", "true positive rate", title="AUROC")
    right = line_chart(pr, "recall", "precision", title="average precision")
    return left.beside(right).drawn()
