"""Images of several sources as the channels of one."""

import numpy as np
import pytest

from genax.core import GenaxError
from genax.core.data import Shard
from genax.data import ImageData
from genax.data.stacked import Stacked


def test_stacked_images_are_the_channels_of_one():
    digits = ImageData("digits", limit=50)
    stacked = Stacked(red=digits, green=digits, blue=digits)
    assert stacked.element["image"].shape == (8, 8, 3)
    assert isinstance(stacked.opened(None), Stacked)
    batches = stacked.train(4, 0, Shard())
    batch = next(batches)
    read = {
        int(i): x
        for b in digits.evaluate(50, Shard())
        for i, x in zip(b["id"], b["image"], strict=True)
    }
    for ids, image in zip(batch["id"], batch["image"], strict=True):
        for channel, number in enumerate(ids):
            np.testing.assert_array_equal(image[..., channel], read[int(number)][..., 0])
    assert (batch["id"][:, 0] != batch["id"][:, 1]).any()
    assert {"image", "id"} == batch.keys()
    # A run goes on from where it was.
    again = stacked.train(4, 0, Shard())
    again.set_state(batches.get_state())
    np.testing.assert_array_equal(next(again)["id"], next(batches)["id"])


def test_sources_of_different_sizes_are_refused():
    stacked = Stacked(red=ImageData("digits"), green=ImageData("digits", size=4))
    with pytest.raises(GenaxError, match="are not of one size"):
        _ = stacked.element
