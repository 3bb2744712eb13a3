"""Which classes a generator makes, by a classifier fitted to the real data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from genax.core.data import Data, Shard
from genax.core.errors import GenaxError
from genax.core.task import Batch, Evaluator

Images = Float[np.ndarray, "n h w c"]
Labels = Int[np.ndarray, " n"]
Classify = Callable[[Images], Labels]

HUNDRED = 100


def labelled_images(data: Data, num: int) -> tuple[Images, Labels]:
    """The first `num` images and labels of a data set, or all if it has fewer.

    Raises GenaxError if the data has no "image" or no "label".
    """
    check_labelled(data)
    images, labels, count = [], [], 0
    for batch in data.evaluate(min(num, 1000), Shard(), None):
        real = np.asarray(batch["mask"]) > 0
        images.append(np.asarray(batch["image"])[real])
        labels.append(np.asarray(batch["label"])[real])
        count += int(real.sum())
        if count >= num:
            break
    return np.concatenate(images)[:num], np.concatenate(labels)[:num]


def check_labelled(data: Data) -> None:
    """Raise GenaxError if a data set has no "image" or no "label"; reads no data."""
    if not {"image", "label"} <= set(data.element):
        raise GenaxError(
            f"a classifier needs data with 'image' and 'label', and {data} has "
            f"{sorted(data.element)}; choose a labelled set."
        )


def fit_classifier(images: Images, labels: Labels) -> Classify:
    """A support vector machine on pixels: seconds for thousands of images, the same each time."""
    from sklearn.svm import SVC

    model = SVC(kernel="rbf", C=10.0, gamma="scale").fit(images.reshape(len(images), -1), labels)
    return lambda new: model.predict(new.reshape(len(new), -1))


def class_scores(predicted: Labels, num_classes: int) -> dict[str, float]:
    """How evenly samples fall into classes; labels [n].

    "classes_of_100": different classes among the first hundred samples. "least_of_100": the same,
    the least over all full hundreds. "rarest_class": share of the rarest class among all samples,
    where 1 / num_classes is even.
    """
    hundreds = [
        predicted[start : start + HUNDRED]
        for start in range(0, max(1, len(predicted) - HUNDRED + 1), HUNDRED)
    ]
    different = [len(np.unique(hundred)) for hundred in hundreds]
    shares = np.bincount(predicted, minlength=num_classes) / len(predicted)
    return {
        "classes_of_100": float(different[0]),
        "least_of_100": float(min(different)),
        "rarest_class": float(shares.min()),
    }


def class_coverage(
    draw: Callable[[Any, Batch], Any],
    train: Data,
    test: Data,
    samples: int = 1000,
    fitted_on: int = 10_000,
) -> Evaluator:
    """An evaluator of the classes among a model's samples.

    draw: a sampler's function, (nets, batch) -> [b, h, w, c] in [-1, 1]. train, test: labelled
    images of that shape and range. samples: how many to draw. fitted_on: how many training images
    the classifier sees. Scores: those of `class_scores`, and "classifier_accuracy" on the first
    2,000 test images, without which the others mean nothing. Raises GenaxError, before data is
    read, if train or test has no labels, other images, or a single class.
    """
    for data in (train, test):
        check_labelled(data)
        if getattr(data, "num_classes", None) == 1:
            raise GenaxError(_one_class(data))
    shapes = [data.element["image"].shape for data in (train, test)]
    if shapes[0] != shapes[1]:
        raise GenaxError(
            f"images of {train} have the shape {shapes[0]}, those of {test} {shapes[1]}; a "
            "classifier needs one shape."
        )

    def summarize(drawn: Images, workdir: Any) -> Mapping[str, float]:
        images, labels = _classes(train, fitted_on)
        if len(np.unique(labels)) < 2:
            raise GenaxError(_one_class(train))
        classify = fit_classifier(images, labels)
        test_images, test_labels = _classes(test, 2000)
        accuracy = float((classify(test_images) == test_labels).mean())
        scores = class_scores(classify(drawn), int(labels.max()) + 1)
        return {**scores, "classifier_accuracy": accuracy}

    return Evaluator(draw, summarize, examples=samples)


def _one_class(data: Data) -> str:
    return f"{data} has images of one class only, which leaves a classifier nothing to tell apart."


def _classes(data: Data, num: int) -> tuple[Images, Labels]:
    images, labels = labelled_images(data, num)
    if labels.min() < 0:
        raise GenaxError(
            f"label {labels.min()} of {data} is no class; choose a split whose labels are known."
        )
    return images, labels
