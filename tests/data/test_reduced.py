"""Images of a data set at a lower resolution: means, in the order of the larger ones."""

from __future__ import annotations

import numpy as np
import pytest

from genax.core import GenaxError
from genax.core.data import Data, Shard
from genax.data import ImageData
from genax.data.reduced import Reduced

DIGITS = ImageData("digits", "train[:20]")


def means(image):
    return image.reshape(len(image), 4, 2, 4, 2, 1).mean((2, 4))


def test_batches_are_those_of_the_set_with_smaller_images():
    data = Reduced(DIGITS, 2)
    assert isinstance(data, Data)
    assert data.element["image"].shape == (4, 4, 1)
    small, large = (one.train(6, 3, Shard(1, 2)) for one in (data, DIGITS))
    for _ in range(3):
        ours, theirs = next(small), next(large)
        assert ours.keys() == theirs.keys()
        np.testing.assert_allclose(ours["image"], means(theirs["image"]), atol=1e-6)
        assert ours["image"].dtype == np.float32
        np.testing.assert_array_equal(ours["label"], theirs["label"])
        np.testing.assert_array_equal(ours["id"], theirs["id"])


def test_a_position_goes_on():
    first, second = (Reduced(DIGITS, 2).train(4, 0, Shard()) for _ in range(2))
    next(first)
    second.set_state(first.get_state())
    np.testing.assert_array_equal(next(first)["image"], next(second)["image"])


def test_evaluation_reads_each_image_once():
    pairs = zip(Reduced(DIGITS, 2).evaluate(8, Shard()), DIGITS.evaluate(8, Shard()), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours["image"], means(theirs["image"]), atol=1e-6)
        np.testing.assert_array_equal(ours["mask"], theirs["mask"])


def test_a_fingerprint_tells_the_factor():
    found = {Reduced(DIGITS, factor).fingerprint() for factor in (1, 2, 4)}
    assert len(found) == 3
    assert Reduced(DIGITS, 2).fingerprint() in found


@pytest.mark.parametrize(("factor", "sentence"), [(3, "3x3 pixels"), (0, "factor=0 must be")])
def test_a_factor_that_does_not_divide(factor, sentence):
    with pytest.raises(GenaxError, match=sentence):
        Reduced(DIGITS, factor)
