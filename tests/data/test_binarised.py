"""Zeros and ones of grey images: drawn once, at each reading, or by a threshold."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from genax.core import GenaxError
from genax.core.data import Data, Shard
from genax.data import ImageData, Joined
from genax.data.binarised import BINARISATIONS, Binarised

GREY = ImageData("digits", "train[:20]", range=(0.0, 1.0))
DRAWN = ("static", "dynamic")


def readings(data, count=6, seed=3):
    """Images by record, in the order of their readings."""
    found = {}
    for batch in islice(data.train(10, seed, Shard()), 2 * count):
        for number, image in zip(batch["id"], batch["image"], strict=True):
            found.setdefault(int(number), []).append(image)
    return found


@pytest.mark.parametrize("how", BINARISATIONS)
def test_everything_but_the_image_is_that_of_the_set(how):
    data = Binarised(GREY, how)
    assert isinstance(data, Data)
    assert data.element == GREY.element
    assert data.num_examples == GREY.num_examples
    for ours, theirs in (
        (next(data.train(6, 3, Shard(1, 2))), next(GREY.train(6, 3, Shard(1, 2)))),
        (next(data.evaluate(8, Shard())), next(GREY.evaluate(8, Shard()))),
    ):
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {"image"}:
            np.testing.assert_array_equal(ours[name], theirs[name])
        assert ours["image"].dtype == np.float32
        assert set(np.unique(ours["image"])) == {0.0, 1.0}
        assert (ours["image"] <= np.ceil(theirs["image"])).all()


def test_static_images_are_drawn_once():
    data = Binarised(GREY, "static")
    other_seed = readings(data, seed=4)
    for number, images in readings(data).items():
        for image in (*images, *other_seed[number]):
            np.testing.assert_array_equal(image, images[0])
    ids = next(data.evaluate(20, Shard()))
    for number, image in zip(ids["id"], ids["image"], strict=True):
        np.testing.assert_array_equal(image, other_seed[int(number)][0])
    again = readings(Binarised(GREY, "static", seed=1))
    assert any((again[number][0] != images[0]).any() for number, images in other_seed.items())


def test_dynamic_images_are_drawn_at_each_reading():
    first, second = (readings(Binarised(GREY, "dynamic"), seed=seed) for seed in (3, 4))
    for number, images in first.items():
        assert len({image.tobytes() for image in (*images, *second[number])}) > 6


def test_a_pixel_is_a_one_as_often_as_it_is_bright():
    data = Binarised(GREY, "dynamic")
    grey = next(GREY.evaluate(20, Shard()))["image"]
    means = readings(data, count=200)
    found = np.stack([np.mean(means[number], axis=0) for number in range(20)])
    # 200 draws of a half deviate by 0.035.
    assert np.abs(found - grey).max() < 0.15
    assert abs((found - grey).mean()) < 0.005
    np.testing.assert_array_equal(found[grey == 0], 0)
    np.testing.assert_array_equal(found[grey == 1], 1)


@pytest.mark.parametrize("how", DRAWN)
def test_an_evaluation_reads_the_same_images_each_time(how):
    data = Binarised(GREY, how)
    whole = next(data.evaluate(20, Shard()))["image"]
    parts = [batch["image"] for batch in data.evaluate(8, Shard())]
    np.testing.assert_array_equal(np.concatenate(parts)[:20], whole)
    half = next(data.evaluate(20, Shard(1, 2)))["image"]
    np.testing.assert_array_equal(half, whole[10:])


@pytest.mark.parametrize("how", BINARISATIONS)
def test_processes_read_what_one_would(how):
    data = Binarised(GREY, how)
    whole = data.train(12, 5, Shard())
    parts = [data.train(12, 5, Shard(number, 3)) for number in range(3)]
    for _ in range(3):
        joined = np.concatenate([next(part)["image"] for part in parts])
        np.testing.assert_array_equal(joined, next(whole)["image"])


def test_a_threshold():
    image = next(Binarised(GREY, "threshold", 0.3).evaluate(20, Shard()))["image"]
    np.testing.assert_array_equal(image, next(GREY.evaluate(20, Shard()))["image"] > 0.3)


def test_a_fingerprint_tells_what_is_drawn():
    several = [Binarised(GREY, how) for how in BINARISATIONS]
    several += [Binarised(GREY, "static", seed=1), Binarised(GREY, "threshold", 0.3), GREY]
    assert len({data.fingerprint() for data in several}) == len(several)
    assert Binarised(GREY).fingerprint() == Binarised(GREY, seed=0, threshold=0.2).fingerprint()


@pytest.mark.parametrize("how", BINARISATIONS)
def test_images_in_another_range_are_refused(how):
    data = Binarised(ImageData("digits", "train[:20]"), how)
    sentence = "digits go from -1 to 1, but they are read as numbers from 0 to 1"
    with pytest.raises(GenaxError, match=sentence):
        next(data.train(4, 0, Shard()))
    with pytest.raises(GenaxError, match=sentence):
        next(data.evaluate(4, Shard()))


def test_what_cannot_be_binarised_is_refused():
    with pytest.raises(GenaxError, match="how='soft' is none of static, dynamic, threshold"):
        Binarised(GREY, "soft")
    with pytest.raises(GenaxError, match=r"threshold=1\.5 must be"):
        Binarised(GREY, "threshold", 1.5)
    with pytest.raises(GenaxError, match="has no 'image'"):
        Binarised(Joined(a=GREY, b=GREY))
