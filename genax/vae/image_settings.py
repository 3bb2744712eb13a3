"""Settings that autoencoders of images share, the data that they name, and their scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from genax.core import Evaluator
from genax.data import ImageData, given_or
from genax.data.within import check_range
from genax.evaluation.chosen_extractors import SCORES, chosen_extractors
from genax.evaluation.fidelity import fidelity
from genax.evaluation.likeness import likeness
from genax.evaluation.pictures import check_pictures
from genax.settings.ranges import COUNT, SHARE, Ranges

IMAGES: dict[str, Any] = {
    "dataset": "fashion_mnist",
    # Splits of the data set; without a test_split nothing is scored.
    "train_split": "train",
    "test_split": "test",
    "flip": False,
    # The decay of the averaged networks that are sampled and scored; 0 is no average.
    "ema": 0.0,
    # By which features images that are made are compared with test images, and how many of them.
    "fidelity": "none",
    "fidelity_examples": 10_000,
    "log_every": 50,
}
# A run of days at a published size.
PUBLISHED: dict[str, Any] = {
    "test_split": "",
    "log_every": 100,
    "checkpoint_every": 10_000,
    "sample_every": 10_000,
}
RANGES: Ranges = {
    "ema": SHARE,
    "fidelity": tuple(SCORES),
    "fidelity_examples": replace(COUNT, least=2),
}


def images_of(config: ConfigDict, size: int, data: Any) -> tuple[Any, Any]:
    """Return the training images and, if there is a test split, the test images.

    size: height (and width) of the images.
    data: see `given_or`; None is what the settings name.
    Raises GenaxError for images that no picture can be made of.
    """
    images = partial(ImageData, config.dataset, size=size, damaged=config.damaged)

    def named() -> tuple[Any, Any]:
        test = images(split=config.test_split) if config.test_split else None
        return images(split=config.train_split, flip=config.flip), test

    train, test = given_or(data, named)
    check_pictures(train)
    check_range(train)
    return train, test


def image_scores(
    config: ConfigDict,
    train: Any,
    test: Any,
    draw: Callable[..., Any],
    reconstruct: Callable[..., Any],
    baseline: Callable[..., Any],
    floor: str,
) -> dict[str, Evaluator]:
    """Return the scores of reconstructions, and those by features that the settings ask for.

    draw: a sampler's function, whose images are compared by features.
    reconstruct: (nets, batch) -> images of the networks for batch["image"].
    baseline, floor: see `likeness`.
    """
    found = {"reconstruction": likeness(reconstruct, baseline, floor)}
    if extractors := chosen_extractors(config.fidelity, train, test):
        found["images"] = fidelity(draw, extractors, train, test, config.fidelity_examples)
    return found
