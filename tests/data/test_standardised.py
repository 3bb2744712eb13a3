"""Data in units of a mean and a deviation."""

from __future__ import annotations

import numpy as np
import pytest

from genax.core.data import Shard
from genax.core.errors import GenaxError
from genax.data import ImageData
from genax.data.selection import Selection
from genax.data.standardised import Standardised


def images(data):
    batches = list(data.evaluate(100, Shard()))
    return np.concatenate([batch["image"][batch["mask"] > 0] for batch in batches])


def test_the_mean_and_the_deviation_are_those_of_the_other_data():
    test = ImageData("digit_pairs", "test", range=(0, 1))
    zeros = ImageData("digit_pairs", select=Selection(classes=(0,), every=3), range=(0, 1))
    seen = images(zeros).astype(np.float64)
    mean, deviation = seen.mean((0, 1, 2)), seen.std((0, 1, 2))
    found = images(Standardised(test, by=zeros))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, (images(test) - mean) / deviation, rtol=1e-4, atol=1e-4)
    own = images(Standardised(zeros))
    np.testing.assert_allclose(own.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(own.std((0, 1, 2)), 1, atol=1e-4)
    batch = next(Standardised(test, by=zeros).train(20, 0, Shard()))
    plain = next(test.train(20, 0, Shard()))
    np.testing.assert_allclose(batch["image"], (plain["image"] - mean) / deviation, atol=1e-4)
    prints = {data.fingerprint() for data in (test, Standardised(test), Standardised(test, zeros))}
    assert len(prints) == 3


def test_constant_data_are_refused():
    black = ImageData("digits", range=(1e-9, 2e-9), limit=1)

    class Black(ImageData):
        def evaluate(self, batch_size, shard):
            for batch in super().evaluate(batch_size, shard):
                yield {**batch, "image": np.full_like(batch["image"], 0.3)}

    with pytest.raises(GenaxError, match="same number everywhere"):
        Standardised(black, by=Black("digits")).moments  # noqa: B018
