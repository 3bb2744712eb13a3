"""Data that a caller gives is held to a range, and otherwise left as it is."""

from __future__ import annotations

import numpy as np
import pytest

from genax.core import GenaxError
from genax.core.data import Data, Shard
from genax.data import ImageData
from genax.data.binarised import Binarised
from genax.data.counting import examples_in
from genax.data.within import Within

UNIT = ImageData("digits", "train[:20]", range=(0.0, 1.0))


def test_data_within_the_range_is_what_it_was():
    data = Within(UNIT)
    assert isinstance(data, Data)
    assert data.element == UNIT.element
    assert data.fingerprint() == UNIT.fingerprint()
    for ours, theirs in (
        (next(data.train(6, 3, Shard())), next(UNIT.train(6, 3, Shard()))),
        (next(data.evaluate(6, Shard())), next(UNIT.evaluate(6, Shard()))),
    ):
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            np.testing.assert_array_equal(array, theirs[name])


@pytest.mark.parametrize("read", ["train", "evaluate"])
@pytest.mark.parametrize("white", [-1.0, 255.0, 1.01])
def test_data_outside_is_refused(read, white):
    data = Within(ImageData("digits", "train[:20]", range=(0.0, white)))
    batches = data.train(20, 0, Shard()) if read == "train" else data.evaluate(20, Shard())
    with pytest.raises(GenaxError, match=r"images of digits go from .* from 0 to 1"):
        next(batches)


def test_numbers_that_are_none_are_refused():
    class Broken:
        element = UNIT.element

        def evaluate(self, batch_size, shard):
            yield {"image": np.full((2, 8, 8, 1), np.nan, np.float32)}

    with pytest.raises(GenaxError, match="from nan to nan"):
        next(Within(Broken()).evaluate(2, Shard()))


def test_how_many_examples_there_are():
    whole = ImageData("digits")
    assert examples_in(whole) == whole.num_examples == 1500
    # Stated by the catalogue, so that nothing has to be prepared.
    assert examples_in(Binarised(ImageData("mnist", "test", range=(0.0, 1.0)))) == 10_000
    assert examples_in(Within(UNIT)) == 20
    assert examples_in(ImageData("digits", limit=7)) == 7

    class Silent:
        element = UNIT.element

    with pytest.raises(GenaxError, match="does not say its number of examples"):
        examples_in(Within(Silent()))
