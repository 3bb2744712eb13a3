"""Which images can be drawn."""

import jax
import numpy as np
import pytest

from genax.core import GenaxError
from genax.data import ImageData
from genax.evaluation.pictures import check_pictures, image_grid


class Shaped(ImageData):
    """Images of `limit` channels."""

    @property
    def element(self):
        shape = (8, 8, self.limit)
        return {"image": jax.ShapeDtypeStruct(shape, np.float32)}


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_are_drawn(channels):
    check_pictures(Shaped("digits", limit=channels))
    assert image_grid(np.zeros((2, 8, 8, channels))).mode == "RGB"


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_other_channels_are_refused_before_there_are_samples(channels):
    with pytest.raises(GenaxError, match=r"images of digits .* 1 channel \(grey\) or 3"):
        check_pictures(Shaped("digits", limit=channels))
