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
    digits = ImageData("digits")
    for pair in ((Unlabelled("digits"), digits), (digits, Unlabelled("digits"))):
        with pytest.raises(GenaxError, match="labelled"):
            class_coverage(lambda nets, batch: None, *pair)


def test_data_that_a_classifier_cannot_be_fitted_to():
    class OneClass(ImageData):
        num_classes = 1

    draw, digits = (lambda nets, batch: None), ImageData("digits")
    with pytest.raises(GenaxError, match="images of one class only"):
        class_coverage(draw, OneClass("digits"), digits)
    with pytest.raises(GenaxError, match="a classifier needs one shape"):
        class_coverage(draw, digits, ImageData("digits", "test", size=4))
    images = np.zeros((10, 8, 8, 1), np.float32)
    with pytest.raises(GenaxError, match="images of one class only"):
        class_coverage(draw, ImageData("digits", "train[:1]"), digits).summarize(images, None)


def test_labels_that_are_no_class():
    class Hidden(ImageData):
        def evaluate(self, *arguments):
            for batch in super().evaluate(*arguments):
                yield {**batch, "label": np.full_like(batch["label"], -1)}

    draw, digits = (lambda nets, batch: None), ImageData("digits", "train[:50]")
    images = np.zeros((10, 8, 8, 1), np.float32)
    for pair in ((Hidden("digits"), digits), (digits, Hidden("digits"))):
        with pytest.raises(GenaxError, match=r"label -1 of .* is no class"):
            class_coverage(draw, *pair).summarize(images, None)
    assert len(labelled_images(Hidden("digits"), 10)[0]) == 10
