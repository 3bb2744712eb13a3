"""The examples that samplers are shown."""

import numpy as np
import pytest

from genax.core.data import Shard
from genax.data import ImageData
from genax.evaluation.examples import first_images


@pytest.mark.parametrize("num", [3, 40])
def test_no_image_is_shown_twice(num):
    """A set that has fewer images than asked for shows all of them once."""
    data = ImageData("digits", "test", limit=7)
    found, count = first_images(data, num, None), min(num, 7)
    assert found["index"].tolist() == list(range(count))
    expected = next(data.evaluate(7, Shard()))["image"][:count]
    np.testing.assert_array_equal(found["image"], expected)
