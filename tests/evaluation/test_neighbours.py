"""The nearest images of a set, found batch by batch."""

import numpy as np

from genax.data import ImageData
from genax.evaluation import neighbours
from genax.evaluation.neighbours import beside_neighbours, nearest_images

DATA = ImageData("digits", "train[:300]")


def test_nearest_images_are_those_of_all_distances(monkeypatch):
    monkeypatch.setattr(neighbours, "READ_AT_A_TIME", 64)
    (batch,) = DATA.evaluate(300, neighbours.Shard())
    images = batch["image"]
    samples = images[[7, 290]] + 0.01 * np.random.default_rng(0).normal(size=(2, 8, 8, 1))
    found = nearest_images(samples.astype(np.float32), DATA, 3, None)
    distances = np.square(samples[:, None] - images[None]).sum((2, 3, 4))
    np.testing.assert_array_equal(found, images[np.argsort(distances, axis=1)[:, :3]])
    np.testing.assert_array_equal(found[:, 0], images[[7, 290]])


def test_a_sample_is_drawn_beside_its_neighbours():
    picture = beside_neighbours(DATA, count=4)(np.zeros((2, 8, 8, 1)), {}, None)
    width, height = picture.size
    assert 2.3 < width / height < 2.7
