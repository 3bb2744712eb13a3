"""Examples drawn at random."""

from __future__ import annotations

import numpy as np
import pytest

from genax.core.data import Shard
from genax.core.errors import GenaxError
from genax.data import ImageData
from genax.data.drawn import Drawn


def numbers(data, batch_size, shard=None):
    batches = list(data.evaluate(batch_size, shard or Shard()))
    return np.concatenate([batch["id"][batch["mask"] > 0] for batch in batches])


def test_examples_are_different_ones_and_the_same_at_any_batch_size():
    digits = ImageData("digits")
    whole = numbers(Drawn(digits, 100), 100)
    assert len(set(whole.tolist())) == 100
    assert not np.array_equal(np.sort(whole), np.arange(100))
    np.testing.assert_array_equal(numbers(Drawn(digits, 100), 48), whole)
    parts = [numbers(Drawn(digits, 100), 48, Shard(number, 2)) for number in range(2)]
    assert sorted(np.concatenate(parts).tolist()) == sorted(whole.tolist())
    assert not np.array_equal(numbers(Drawn(digits, 100, seed=1), 100), whole)


def test_fingerprints_and_refusals():
    digits = ImageData("digits")
    draws = (Drawn(digits, 5), Drawn(digits, 6), Drawn(digits, 5, seed=1))
    assert len({data.fingerprint() for data in draws} | {digits.fingerprint()}) == 4
    assert Drawn(digits, 5).element == digits.element
    with pytest.raises(GenaxError, match="count=0 must be"):
        Drawn(digits, 0)
    with pytest.raises(GenaxError, match="draws examples as they are"):
        Drawn(ImageData("digits", flip=True), 5)
