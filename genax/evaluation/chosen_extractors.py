"""The extractors that a setting `fidelity` chooses by a word."""

from __future__ import annotations

from collections.abc import Mapping

from genax.core.data import Data
from genax.evaluation.extractors import Extractor
from genax.evaluation.image_classifier import image_classifier
from genax.evaluation.inception import inception

# By word the features of which networks. That of "classifier" is trained on the labels of the data
# set.
SCORES: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "classifier": ("classifier",),
    "inception": ("inception",),
    "both": ("classifier", "inception"),
}


def chosen_extractors(word: str, train: Data, test: Data) -> list[Extractor]:
    """Return the extractors that a word of `SCORES` stands for.

    train, test: see `image_classifier`.
    """
    return [
        inception() if name == "inception" else image_classifier(train, test)
        for name in SCORES[word]
    ]
