"""Counting classes among samples."""

import jax
import numpy as np
import pytest

from genax.core import GenaxError
from genax.data import ImageData
from genax.evaluation.classifier import class_coverage, class_scores, labelled_images


def test_scores_of_even_and_collapsed_samples():
    even = class_scores(np.tile(np.arange(10), 30), 10)
    assert even == {"classes_of_100": 10, "least_of_100": 10, "rarest_class": 0.1}
    collapsed = class_scores(np.r_[np.tile(np.arange(10), 10), np.zeros(150, int)], 10)
    assert collapsed == {"classes_of_100": 10, "least_of_100": 1, "rarest_class": 0.04}
    assert class_scores(np.array([3, 3, 1]), 10)["classes_of_100"] == 2


def test_real_images_cover_their_classes():
    train, test = ImageData("digits"), ImageData("digits", "test")
    evaluator = class_coverage(lambda nets, batch: batch["image"], train, test, samples=200)
    assert evaluator.examples == 200
    images, labels = labelled_images(test, 200)
    scores = evaluator.summarize(images, None)
    assert scores["classes_of_100"] == len(set(labels[:100]))
    assert scores["classifier_accuracy"] > 0.9


def test_labels_are_needed():
    class Unlabelled(ImageData):
        element = {"image": jax.ShapeDtypeStruct((8, 8, 1), np.float32)}  # noqa: RUF012

    with pytest.raises(GenaxError, match="labelled"):
        labelled_images(Unlabelled("digits"), 10)
