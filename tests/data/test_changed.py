"""Data sets that change the values of another one."""

from __future__ import annotations

from functools import partial

import pytest

from genax.data import ImageData
from genax.data.binarised import Binarised
from genax.data.reduced import Reduced
from genax.data.standardised import Standardised
from genax.data.within import Within

MAKE = (Within, partial(Binarised, how="static"), Standardised, partial(Reduced, factor=2))


@pytest.mark.parametrize("make", MAKE)
def test_what_is_known_of_the_data_is_told(make):
    """Random changes among it, of which latents are not kept."""
    digits = ImageData("digits", range=(0.0, 1.0))
    flipped = ImageData("digits", range=(0.0, 1.0), flip=True)
    assert [make(data).is_augmented for data in (digits, flipped)] == [False, True]
    assert make(digits).num_examples == 1_500
