"""What a classifier gains from samples as further training data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from genax.core.data import Data
from genax.core.task import Batch, Evaluator
from genax.evaluation.classifier import (
    TESTED_ON,
    accuracy,
    check_classes,
    fit_classifier,
    known_classes,
    several_classes,
)


def classifier_gain(
    draw: Callable[[Any, Batch], Any], train: Data, test: Data, images: int = 1_000
) -> Evaluator:
    """Evaluator of a model's samples as the training data of a classifier.

    Its scores are shares of the first 2,000 test images that a support vector machine gets right:

    accuracy_of_real: after real images.
    accuracy_of_samples: after samples alone, one with the label of each of these real images (the
      classification accuracy score of Ravuri & Vinyals 2019, arXiv:1905.10887).
    accuracy_of_both: after both.
    gain: accuracy_of_both less accuracy_of_real.

    draw: a sampler's function, (nets, batch) -> [b, h, w, c] in [-1, 1], of batch["label"].
    train, test: labelled images of that shape and range. A gain says something only if the model
      was trained on no other images than `train`.
    images: how many real images; all if there are fewer.
    Raises GenaxError, before data is read, for the data that `class_coverage` refuses.
    """
    check_classes(train, test)

    def rows(nets: Any, batch: Batch) -> Mapping[str, Any]:
        return {"image": draw(nets, batch), "label": batch["label"]}

    def summarize(samples: Mapping[str, np.ndarray], workdir: Any) -> dict[str, float]:
        real, drawn = several_classes(train, images), (samples["image"], samples["label"])
        sets = {
            "real": real,
            "samples": drawn,
            "both": [np.concatenate(pair) for pair in zip(real, drawn, strict=True)],
        }
        unseen = known_classes(test, TESTED_ON)
        # Samples of a run that diverged teach nothing.
        scores = {
            f"accuracy_of_{name}": accuracy(fit_classifier(*found), *unseen)
            if np.isfinite(found[0]).all()
            else math.nan
            for name, found in sets.items()
        }
        return scores | {"gain": scores["accuracy_of_both"] - scores["accuracy_of_real"]}

    return Evaluator(rows, summarize, images, train)
