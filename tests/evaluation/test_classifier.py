"""Counting classes among samples."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.data import ImageData
from genax.evaluation.classifier import (
    class_coverage,
    class_scores,
    classify,
    fit_classifier,
    labelled_images,
)
from genax.running.evaluate import evaluate
from genax.running.sampling import variables
from tests.core.toys import line_state, line_task


def test_scores_of_even_and_collapsed_samples():
    even = class_scores(np.tile(np.arange(10), 30), 10)
    assert even == {"classes_of_100": 10, "least_of_100": 10, "rarest_class": 0.1}
    collapsed = class_scores(np.r_[np.tile(np.arange(10), 10), np.zeros(150, int)], 10)
    assert collapsed == {"classes_of_100": 10, "least_of_100": 1, "rarest_class": 0.04}
    assert class_scores(np.array([3, 3, 1]), 10)["classes_of_100"] == 2


def scores(evaluator):
    task = line_task(evaluators={"classes": evaluator})
    values = variables(jax.jit(lambda: line_state(task))())
    found = evaluate(task, values, None, 64, None)
    return {name.removeprefix("classes/"): score for name, score in found.items()}


def test_real_images_cover_their_classes():
    train, test = ImageData("digits"), ImageData("digits", "test")
    found = scores(class_coverage(lambda nets, batch: batch["image"], train, test, samples=200))
    _, labels = labelled_images(test, 200)
    assert found["classes_of_100"] == len(set(labels[:100]))
    assert found["rarest_class"] == pytest.approx(np.bincount(labels).min() / 200, abs=0.02)
    assert found["classifier_accuracy"] > 0.9


def test_as_many_samples_as_asked_for_beside_fewer_test_images():
    train, test = ImageData("digits"), ImageData("digits", "test")
    images, labels = labelled_images(train, 1000)

    def draw(nets, batch):
        """Ones, and as the very last a zero."""
        zero, one = (images[np.argmax(labels == number)] for number in (0, 1))
        return jnp.where(batch["index"][:, None, None, None] == 999, zero, one)

    assert len(labelled_images(test, 1000)[0]) == 297
    counting = replace(
        class_coverage(draw, train, test, samples=1000),
        summarize=lambda found, workdir: dict(enumerate(np.bincount(found))),
    )
    assert scores(counting) == {"0": 1, "1": 999}


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_classifier_is_that_of_scikit_learn(classes):
    from sklearn.svm import SVC

    (images, labels), (new, _) = (
        labelled_images(ImageData("digits", split), 700) for split in ("train", "test")
    )
    images, labels = images[labels < classes], labels[labels < classes] + 3
    model = SVC(kernel="rbf", C=10.0, gamma="scale").fit(images.reshape(len(images), -1), labels)
    found = classify(fit_classifier(images, labels), new)
    np.testing.assert_array_equal(found, model.predict(new.reshape(len(new), -1)))


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
    with pytest.raises(GenaxError, match="images of one class only"):
        scores(class_coverage(draw, ImageData("digits", "train[:1]"), digits))


def test_labels_that_are_no_class():
    class Hidden(ImageData):
        def evaluate(self, *arguments):
            for batch in super().evaluate(*arguments):
                yield {**batch, "label": np.full_like(batch["label"], -1)}

    draw, digits = (lambda nets, batch: None), ImageData("digits", "train[:50]")
    for pair in ((Hidden("digits"), digits), (digits, Hidden("digits"))):
        with pytest.raises(GenaxError, match=r"label -1 of .* is no class"):
            scores(class_coverage(draw, *pair))
    assert len(labelled_images(Hidden("digits"), 10)[0]) == 10
