"""Fields: what they take, keep and give back."""

from __future__ import annotations

import numpy as np
import pytest

from genax.core.errors import GenaxError
from genax.data.fields import (
    Bitmap,
    Image,
    Label,
    Labels,
    Number,
    Numbers,
    Other,
    Real,
    Series,
    Text,
    Texts,
    image_of,
    label_of,
    listed,
)

WHITE = np.uint8([0, 255, 255, 0, 255, 0, 0, 0, 255, 255]).reshape(2, 5, 1)
PICTURE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


@pytest.mark.parametrize(
    ("field", "value", "wrong"),
    [
        (Image(2, 4, 3), PICTURE, PICTURE[1:]),
        (Image(None, None, 3), PICTURE, PICTURE.astype(np.float32)),
        (Bitmap(2, 5, 1), WHITE, WHITE // 2),
        (Series(3, 2), np.float32([[1, 2], [3, 4], [5, 6]]), np.float32([[1, 2], [3, 4]])),
        (Series(2), np.float32([[1], [2]]), np.float32([[1], [np.nan]])),
        (Number(), -7, 0.5),
        (Label(3), 2, "2"),
        (Real(), 0.25, float("nan")),
        (Text(), "É \ud800 \N{SNOWMAN}", b"bytes"),
        (Texts(), ("a", "ö"), ("a", 1)),
        (Numbers(), (1, 2), (1, "2")),
        (Labels(3), (), 1),
    ],
)
def test_what_is_stored_comes_back(field, value, wrong):
    assert field.fits(value)
    assert not field.fits(wrong)
    kept = np.asarray(field.stored(value))
    assert kept.dtype == field.dtype
    assert len(kept.shape) == len(field.shape)
    back = field.restored(kept)
    assert field.fits(back)
    np.testing.assert_array_equal(back, value)


def test_texts_that_others_wrote():
    assert Text().restored(Text().stored(b"\xff \xc3\xa9")) == "\N{REPLACEMENT CHARACTER} é"


def test_columns():
    assert Label().column([1, 2]).dtype == np.int32
    assert Real().column([1, 2]).dtype == np.float32
    assert Image(2, 4, 3).column([PICTURE] * 5).shape == (5, 2, 4, 3)
    assert Series(2).column([np.zeros((2, 1), np.float32)] * 5).shape == (5, 2, 1)
    assert Texts().column([("a",), ("b",)]).tolist() == [("a",), ("b",)]
    with pytest.raises(OverflowError):
        Number().column([2**40])


def test_what_an_example_is_asked_for():
    fields = {"kind": Label(3), "image": Image(8, 8, 1), "depth": Image(8, 8, 1), "n": Number()}
    assert image_of(fields) == "image"
    assert image_of({"text": Text()}) is None
    assert label_of(fields) == "kind"
    assert label_of({**fields, "label": Number()}) == "label"
    assert label_of({**fields, "label": Real()}) == "kind"
    assert label_of({**fields, "other": Label(2)}) is None
    assert listed({"b": Text(), "a": Other("Audio")}) == "a (Audio), b (Text)"


def test_what_cannot_be_kept_is_refused():
    for use in (Other("a sound").stored, Other("a sound").restored):
        with pytest.raises(GenaxError, match="something else cannot be kept in a prepared set"):
            use(np.zeros(3))
