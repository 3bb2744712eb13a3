"""Agreement of predicted numbers with the true ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Array

from genax.core import Evaluator
from genax.core.task import Batch


def regression_scores(values: Callable[[Any, Batch], Array]) -> Evaluator:
    """Scores "pearson", "spearman" and "mean_squared_error" of GLUE's STS-B: Wang et al. 2018.

    values: (nets, batch) -> [b]. The truth is batch["label"].
    """
    return Evaluator(partial(value_rows, values=values), _summarize)


def value_rows(nets: Any, batch: Batch, values: Callable[[Any, Batch], Array]) -> Mapping[str, Any]:
    """Return the predicted number of each text beside the true one."""
    return {"found": values(nets, batch), "label": batch["label"]}


def _summarize(rows: Mapping[str, np.ndarray], workdir: Any) -> Mapping[str, float]:
    found, label = (rows[name].astype(np.float64) for name in ("found", "label"))
    return {
        **correlations(found, label),
        "mean_squared_error": float(np.mean((found - label) ** 2)),
    }


def correlations(found: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Return the correlations of numbers and of their ranks.

    They are NaN, which is no score, if a side is constant.
    """
    from scipy import stats

    if not (np.ptp(found) > 0 and np.ptp(label) > 0):
        return {"pearson": math.nan, "spearman": math.nan}
    return {
        "pearson": float(stats.pearsonr(found, label).statistic),
        "spearman": float(stats.spearmanr(found, label).statistic),
    }
