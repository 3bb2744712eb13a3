"""What a classifier gains from samples."""

import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.data import ImageData
from genax.evaluation.classifier import labelled_images
from genax.evaluation.classifier_gain import classifier_gain
from tests.evaluation.test_classifier import scores
from tests.gan.test_tasks import built


@pytest.fixture(scope="module")
def digits():
    return ImageData("digits", "train[:200]"), ImageData("digits", "test")


def test_real_images_as_samples_teach_what_they_teach(digits):
    found = scores(classifier_gain(lambda nets, batch: batch["image"], *digits))
    assert found["accuracy_of_samples"] == found["accuracy_of_real"] > 0.8
    assert found["gain"] == pytest.approx(found["accuracy_of_both"] - found["accuracy_of_real"])


def test_images_that_the_classifier_has_not_seen_are_a_gain(digits):
    _, labels = labelled_images(digits[0], 200)
    images, classes = labelled_images(ImageData("digits", "train[200:]"), 2_000)
    most = np.bincount(labels).max()
    unseen = jnp.asarray(np.stack([images[classes == number][:most] for number in range(10)]))

    def draw(nets, batch):
        return unseen[batch["label"], batch["index"] % most]

    assert scores(classifier_gain(draw, *digits))["gain"] > 0.01


def test_samples_of_wrong_classes_teach_nothing(digits):
    def draw(nets, batch):
        return jnp.roll(batch["image"], 1, axis=0)

    found = scores(classifier_gain(draw, *digits))
    assert found["accuracy_of_samples"] < 0.3
    assert found["gain"] < 0


def test_samples_without_labels_are_refused():
    with pytest.raises(GenaxError, match=r"gain_samples=10 .*num_classes=0"):
        built("dcgan", gain_samples=10)
