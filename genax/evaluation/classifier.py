"""Class coverage of a generator, by a classifier fitted to the real data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from genax.core.data import Data, Shard
from genax.core.errors import GenaxError
from genax.core.task import Batch, Evaluator

Images = Float[np.ndarray, "n h w c"]
Labels = Int[np.ndarray, " n"]
Classifier = Mapping[str, Any]

HUNDRED = 100
TESTED_ON = 2_000


def labelled_images(data: Data, num: int) -> tuple[Images, Labels]:
    """Return the first `num` images and labels of a data set, or all if it has fewer.

    Raises GenaxError if the data has no "image" or no "label".
    """
    check_labelled(data)
    images, labels, count = [], [], 0
    for batch in data.evaluate(min(num, 1000), Shard()):
        real = np.asarray(batch["mask"]) > 0
        images.append(np.asarray(batch["image"])[real])
        labels.append(np.asarray(batch["label"])[real])
        count += int(real.sum())
        if count >= num:
            break
    return np.concatenate(images)[:num], np.concatenate(labels)[:num]


def check_labelled(data: Data) -> None:
    """Raise GenaxError if a data set has no "image" or no "label". This reads no data."""
    if not {"image", "label"} <= set(data.element):
        raise GenaxError(
            f"a classifier needs data with 'image' and 'label', but {data} has "
            f"{sorted(data.element)}; choose a labelled set, or leave this score out: in "
            "experiments/gan/dcgan.py config.coverage_samples=0."
        )


def check_classes(train: Data, test: Data) -> None:
    """Raise GenaxError if no classifier of train can be tested on test. This reads no data."""
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


def fit_classifier(images: Images, labels: Labels) -> Classifier:
    """Fit a support vector machine to pixels.

    The fit takes seconds for thousands of images and is the same each time.
    """
    from sklearn.svm import SVC

    gamma = 1 / (images[0].size * images.var(dtype=np.float64) or 1)
    model = SVC(kernel="rbf", C=10.0, gamma=gamma).fit(images.reshape(len(images), -1), labels)
    ends = np.cumsum(model.n_support_)
    vectors = [slice(end - count, end) for end, count in zip(ends, model.n_support_, strict=True)]
    pairs = np.array(list(itertools.combinations(range(len(vectors)), 2)))
    # Each support vector is one row. A pair of classes uses the rows of its two classes.
    slopes = np.zeros((ends[-1], len(pairs)))
    for number, (one, other) in enumerate(pairs):
        slopes[vectors[one], number] = model.dual_coef_[other - 1, vectors[one]]
        slopes[vectors[other], number] = model.dual_coef_[one, vectors[other]]
    arrays = {
        "vectors": model.support_vectors_,
        "gamma": gamma,
        "slopes": slopes,
        "offsets": model.intercept_,
    }
    # With two classes, a positive decision is for the second one.
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()} | {
        "pairs": pairs[:, ::-1] if len(vectors) == 2 else pairs,
        "classes": model.classes_,
    }


def classify(classifier: Classifier, images: Images | Float[Array, "n h w c"]) -> Int[Array, " n"]:
    """Return the class of each image that wins most of its pairs, the first of equals."""
    x, vectors = images.reshape(len(images), -1), classifier["vectors"]
    products = jnp.matmul(x, vectors.T, precision="highest")
    distances = (x**2).sum(-1)[:, None] + (vectors**2).sum(-1) - 2 * products
    kernel = jnp.exp(-classifier["gamma"] * distances)
    decisions = jnp.matmul(kernel, classifier["slopes"], precision="highest")
    one, other = classifier["pairs"].T
    winners = jnp.where(decisions + classifier["offsets"] > 0, one, other)
    votes = (winners[..., None] == jnp.arange(len(classifier["classes"]))).sum(1)
    return jnp.asarray(classifier["classes"])[votes.argmax(-1)]


def accuracy(classifier: Classifier, images: Images, labels: Labels) -> float:
    """Return the share of images that are classified right."""
    return float((classify(classifier, images) == labels).mean())


def class_scores(predicted: Labels, num_classes: int) -> dict[str, float]:
    """Return how evenly samples fall into classes.

    classes_of_100: number of different classes among the first hundred samples.
    least_of_100: the least such number over all full hundreds.
    rarest_class: share of the rarest class among all samples. 1 / num_classes is even.

    predicted: [n], classes of the samples.
    num_classes: number of classes.
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
    """Evaluator of the classes among a model's samples.

    Its scores are those of `class_scores`, and "classifier_accuracy" on the first 2,000 test
    images, which says how far the others can be trusted.

    draw: a sampler's function, (nets, batch) -> [b, h, w, c] in [-1, 1].
    train, test: labelled images of that shape and range.
    samples: number of samples to draw, for any number of test images.
    fitted_on: number of training images that the classifier is fitted to, once per process.
    Raises GenaxError, before data is read, if train or test has no labels, other images, or a
    single class.
    """
    check_classes(train, test)

    @cache
    def fitted() -> tuple[Classifier, float]:
        classifier = fit_classifier(*several_classes(train, fitted_on))
        return classifier, accuracy(classifier, *known_classes(test, TESTED_ON))

    def classes(nets: Any, batch: Batch, given: Classifier) -> Int[Array, " b"]:
        return classify(given, draw(nets, batch))

    def summarize(found: Labels, workdir: Any) -> Mapping[str, float]:
        classifier, accuracy = fitted()
        scores = class_scores(found, int(classifier["classes"].max()) + 1)
        return {**scores, "classifier_accuracy": accuracy}

    return Evaluator(classes, summarize, samples, test, given=lambda workdir: fitted()[0])


def known_classes(data: Data, num: int) -> tuple[Images, Labels]:
    """Return what `labelled_images` does. Raises GenaxError too if a label is negative."""
    images, labels = labelled_images(data, num)
    if labels.min() < 0:
        raise GenaxError(
            f"label {labels.min()} of {data} is no class; choose a split with known labels."
        )
    return images, labels


def several_classes(data: Data, num: int) -> tuple[Images, Labels]:
    """Return what `known_classes` does. Raises GenaxError too if all labels are the same."""
    images, labels = known_classes(data, num)
    if len(np.unique(labels)) < 2:
        raise GenaxError(_one_class(data))
    return images, labels


def _one_class(data: Data) -> str:
    return f"{data} has images of one class only, which leaves a classifier nothing to tell apart."
