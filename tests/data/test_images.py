from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow_datasets as tfds

from genax.core.data import Shard
from genax.core.errors import GenaxError
from genax.data import ImageData, TextData
from genax.data.sets.embedded import load_digits
from genax.data.sets.tfds_sets import prepare_tfds
from tests.data import fakes


@pytest.mark.parametrize("settings", [{}, {"pad": 2}, {"size": 16}, {"size": 12, "pad": 1}])
def test_batches_are_what_element_says(settings):
    data = ImageData("digits", **settings)
    batch = next(data.train(8, 0, Shard()))
    assert set(batch) == {*data.element, "id"}
    for name, spec in data.element.items():
        assert batch[name].shape == (8, *spec.shape)
        assert batch[name].dtype == spec.dtype
    assert batch["image"].min() == -1
    assert 0.8 < batch["image"].max() <= 1


def test_digits_keep_their_values_and_split():
    data = ImageData("digits", "test", range=(0, 1))
    batches = list(data.evaluate(100, Shard()))
    assert [int(batch["mask"].sum()) for batch in batches] == [100, 100, 97]
    images = np.concatenate([batch["image"] for batch in batches])[:297]
    arrays = load_digits("test")
    np.testing.assert_allclose(images, arrays["image"] / 255, atol=1e-6)
    labels = np.concatenate([batch["label"] for batch in batches])[:297]
    np.testing.assert_array_equal(labels, arrays["label"])
    assert (ImageData("digits").num_examples, data.num_examples) == (1500, 297)
    assert data.num_classes == 10


def test_flips_mirror_half_on_any_number_of_processes():
    plain = next(ImageData("digits").train(400, 0, Shard()))["image"]
    data = ImageData("digits", flip=True)
    flipped = next(data.train(400, 0, Shard()))["image"]
    mirrored = np.array(
        [np.array_equal(f, p[:, ::-1]) for f, p in zip(flipped, plain, strict=True)]
    )
    same = np.array([np.array_equal(f, p) for f, p in zip(flipped, plain, strict=True)])
    assert np.all(mirrored | same)
    assert 150 < mirrored.sum() < 250
    halves = [next(data.train(400, 0, Shard(n, 2)))["image"] for n in range(2)]
    np.testing.assert_array_equal(np.concatenate(halves), flipped)
    first = next(iter(data.evaluate(10, Shard())))["image"]
    np.testing.assert_array_equal(
        first, next(iter(ImageData("digits").evaluate(10, Shard())))["image"]
    )


def add_noise(example, rng):
    return {**example, "image": example["image"] + rng.normal(size=(8, 8, 1)).astype(np.float32)}


def test_transforms_are_random_per_example_on_any_number_of_processes():
    data = ImageData("digits", transform=add_noise)
    whole = data.train(8, 0, Shard())
    quarters = [data.train(8, 0, Shard(n, 4)) for n in range(4)]
    for _ in range(3):
        expected = np.concatenate([next(quarter)["image"] for quarter in quarters])
        np.testing.assert_array_equal(next(whole)["image"], expected)
    assert data.fingerprint() != ImageData("digits").fingerprint()


def test_a_transform_that_changes_the_shape_is_refused():
    def crop(example, rng):
        return {**example, "image": example["image"][1:]}

    with pytest.raises(GenaxError, match=r"made 'image' float32\(7, 8, 1\)"):
        next(ImageData("digits", transform=crop).train(8, 0, Shard()))


def test_prepared_set_is_read_in_its_order(prepared):
    data = ImageData("mnist", "test", range=(0, 255))
    (batch,) = data.evaluate(16, Shard())
    arrays = fakes.arrays()
    np.testing.assert_allclose(
        batch["image"][: fakes.TEST, ..., 0], arrays["t10k-images-idx3-ubyte"], atol=1e-4
    )
    np.testing.assert_array_equal(batch["label"][: fakes.TEST], arrays["t10k-labels-idx1-ubyte"])
    assert batch["mask"].sum() == fakes.TEST
    limited = dataclasses.replace(data, limit=5)
    assert limited.num_examples == 5
    assert next(limited.train(10, 0, Shard()))["id"].max() < 5


def test_large_sets_are_read_by_record(prepared, monkeypatch):
    monkeypatch.setattr("genax.data.sets.records._MEMORY", 0)
    streamed = ImageData("mnist", flip=True)
    iterator = streamed.train(10, 0, Shard())
    found = [next(iterator) for _ in range(8)]
    assert streamed._records.threads > 1
    monkeypatch.setattr("genax.data.sets.records._MEMORY", 1 << 30)
    kept = ImageData("mnist", flip=True)
    assert kept._records.threads == 1
    for batch, expected in zip(found, kept.train(10, 0, Shard()), strict=False):
        np.testing.assert_array_equal(batch["image"], expected["image"])
        np.testing.assert_array_equal(batch["label"], expected["label"])


def test_facts_need_no_data(cache):
    assert ImageData("mnist", pad=2).element["image"].shape == (32, 32, 1)
    assert ImageData("cifar10").element["image"].shape == (32, 32, 3)
    assert not cache.exists()


def test_missing_set_names_the_command(cache):
    data = ImageData("mnist")
    for call in (data.fingerprint, lambda: data.train(4, 0, Shard())):
        with pytest.raises(GenaxError, match="run: genax data prepare mnist"):
            call()


def test_fingerprint_changes_with_a_byte_and_with_settings(prepared):
    data = ImageData("mnist")
    before = data.fingerprint()
    assert ImageData("mnist").fingerprint() == before
    assert ImageData("mnist", pad=2).fingerprint() != before
    assert ImageData("mnist", "test").fingerprint() != before
    path = next(prepared.glob("*train*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert ImageData("mnist").fingerprint() != before


def test_clear_errors(prepared):
    with pytest.raises(GenaxError, match="no split 'dev'; it has train, test"):
        ImageData("mnist", "dev").train(4, 0, Shard())
    with pytest.raises(GenaxError, match="no data set 'mnits'; there are digits"):
        ImageData("mnits").element  # noqa: B018
    with pytest.raises(GenaxError, match="use TextData"):
        ImageData("stdlib").element  # noqa: B018
    for path in prepared.glob("*train*"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(GenaxError, match="genax data prepare mnist"):
        next(ImageData("mnist").train(4, 0, Shard()))


def test_sets_of_tensorflow_datasets_open_by_name(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared.parents[1]))
    data = ImageData("tfds:mnist:1.0.0", "train[:20]")
    assert data.element["image"].shape == (28, 28, 1)
    assert data.num_examples == 20
    (batch,) = data.evaluate(20, Shard())
    np.testing.assert_array_equal(
        batch["image"], next(iter(ImageData("mnist").evaluate(20, Shard())))["image"]
    )
    with pytest.raises(GenaxError, match="run: genax data prepare tfds:cifar10"):
        ImageData("tfds:cifar10").train(4, 0, Shard())
    assert ImageData("tfds:cifar10").element["image"].shape == (32, 32, 3)
    with pytest.raises(GenaxError, match="has no set 'nothing_like_it'"):
        ImageData("tfds:nothing_like_it").element  # noqa: B018


@pytest.mark.parametrize("name", ["a-b", "", "mnist/foo", "mnist:9.9.9", "mnist:a.b", "..", "a b"])
def test_names_that_tensorflow_datasets_does_not_open(name, cache):
    with pytest.raises(GenaxError, match=r"cannot open .*; a data set is named tfds:SET") as info:
        ImageData(f"tfds:{name}").element  # noqa: B018
    assert "\n" not in str(info.value)
    with pytest.raises(GenaxError, match="cannot open"):
        prepare_tfds(f"tfds:{name}")
    with pytest.raises(GenaxError, match="cannot open"):
        TextData(f"tfds:{name}").fingerprint()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("size", [0, -1, 1.5, float("nan"), "", True]),
        ("pad", [-1, 1.5, float("nan"), ""]),
        ("limit", [0, -1, 1.5]),
    ],
)
def test_fields_out_of_their_ranges(name, values):
    for value in values:
        with pytest.raises(GenaxError, match=f"ImageData of digits: {name}="):
            ImageData("digits", **{name: value})


def test_ranges_that_are_none():
    for values in ((0, 0), (0, float("nan")), (float("-inf"), 1)):
        with pytest.raises(GenaxError, match="two different finite numbers"):
            ImageData("digits", range=values)


class Labelled(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Five black images with any features and values."""

    VERSION = tfds.core.Version("1.0.0")
    name = "labelled"
    url_infos = None

    def __init__(self, others, **options):
        self.others = others
        super().__init__(**options)

    def _info(self):
        features = {name: feature for name, (feature, _) in self.others.items()}
        features["image"] = tfds.features.Tensor(shape=(4, 4, 1), dtype=np.uint8)
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples()}

    def _generate_examples(self):
        for number in range(5):
            others = {name: values[number] for name, (_, values) in self.others.items()}
            yield number, {"image": np.zeros((4, 4, 1), np.uint8), **others}


@pytest.fixture
def labelled(tmp_path, monkeypatch):
    """A function that makes the set tfds:labelled of the features, with their values."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))

    def make(**others):
        builder = Labelled(others, data_dir=str(tmp_path), file_format="array_record")
        builder.download_and_prepare()

    return make


NUMBERS = [0, 1, 2, 1, 0]
CLASS = tfds.features.ClassLabel(num_classes=3)
WHOLE = tfds.features.Scalar(np.int64)


@pytest.mark.parametrize(
    "others",
    [
        {"label": (CLASS, NUMBERS)},
        {"label": (WHOLE, NUMBERS)},
        {"kind": (CLASS, NUMBERS), "id": (WHOLE, [9] * 5)},
        {"label": (tfds.features.Text(), ["a"] * 5), "kind": (CLASS, NUMBERS)},
    ],
)
def test_a_label_is_a_class_or_a_whole_number(others, labelled):
    labelled(**others)
    data = ImageData("tfds:labelled", "test", classes=3)
    assert data.element["label"].dtype == np.int32
    data.fingerprint()
    (batch,) = data.evaluate(5, Shard())
    assert batch["label"].tolist() == NUMBERS
    assert batch["label"].dtype == np.int32


@pytest.mark.parametrize(
    ("others", "has"),
    [
        ({}, "it has image .Image.;"),
        ({"label": (tfds.features.Scalar(np.float32), [0.5] * 5)}, "label .Real.;"),
        ({"label": (tfds.features.Text(), ["a"] * 5)}, "label .Text.;"),
        ({"label": (tfds.features.Sequence(CLASS), [[1]] * 5)}, "label .Labels.;"),
        ({"a": (CLASS, NUMBERS), "b": (CLASS, NUMBERS)}, "a .Label., b .Label., image"),
    ],
)
def test_other_features_are_no_label(others, has, labelled):
    labelled(**others)
    assert list(ImageData("tfds:labelled", "test").element) == ["image"]
    data = ImageData("tfds:labelled", "test", classes=3)
    for call in (lambda: data.element, data.fingerprint):
        with pytest.raises(GenaxError, match=f"tfds:labelled has no 'label' that .* {has}"):
            call()


@pytest.mark.parametrize("memory", [0, 1 << 30])
@pytest.mark.parametrize(
    ("feature", "values", "said"),
    [
        (CLASS, [-1] * 5, "split 'test' of tfds:labelled has the label -1, which is no class"),
        (
            WHOLE,
            [0, 1, 7, 1, 0],
            "split 'test' of tfds:labelled has the label 7, which is no class",
        ),
        (WHOLE, [0, 1, 2**40, 1, 0], "the label 1099511627776, which exceeds 32 bits"),
        (
            tfds.features.ClassLabel(num_classes=8),
            NUMBERS,
            "split 'test' of tfds:labelled has the label 7, which is no class of 0 to 2",
        ),
    ],
)
def test_labels_that_are_no_class(feature, values, said, memory, labelled, monkeypatch):
    monkeypatch.setattr("genax.data.sets.records._MEMORY", memory)
    labelled(label=(feature, values))
    data = ImageData("tfds:labelled", "test", classes=3)
    with pytest.raises(GenaxError, match=said):
        data.fingerprint()
    if values is not NUMBERS:
        with pytest.raises(GenaxError, match=said):
            list(data.evaluate(5, Shard()))


def test_labels_that_nobody_reads_are_not_checked(labelled):
    labelled(label=(CLASS, [-1] * 5))
    data = ImageData("tfds:labelled", "test")
    data.fingerprint()
    assert next(data.train(5, 0, Shard()))["label"].tolist() == [-1] * 5


def test_classes_change_no_example():
    data = ImageData("digits", classes=10)
    assert data.fingerprint() == ImageData("digits").fingerprint()
    with pytest.raises(GenaxError, match="split 'train' of digits has the label 9, which is no cl"):
        dataclasses.replace(data, classes=5).fingerprint()


def test_pairs_are_changed_alike():
    data = ImageData("digit_pairs", image="colour", source="strokes", size=12, pad=1, flip=True)
    assert {name: spec.shape for name, spec in data.element.items()} == {
        "image": (14, 14, 3),
        "source": (14, 14, 3),
        "label": (),
    }
    plain = dataclasses.replace(data, flip=False)
    batch, unchanged = (next(one.train(40, 0, Shard())) for one in (data, plain))
    mirrored = {
        name: (batch[name] != unchanged[name]).any((1, 2, 3)) for name in ("image", "source")
    }
    np.testing.assert_array_equal(mirrored["image"], mirrored["source"])
    assert 5 < mirrored["image"].sum() < 35
    np.testing.assert_array_equal(
        batch["source"][mirrored["image"]], unchanged["source"][mirrored["image"], :, ::-1]
    )
    alone = ImageData("digit_pairs", image="strokes", size=12, pad=1)
    np.testing.assert_array_equal(next(alone.train(40, 0, Shard()))["image"], unchanged["source"])


def test_other_pictures_are_other_data_and_must_be_there():
    first = ImageData("digit_pairs")
    assert first.fingerprint() != ImageData("digit_pairs", image="strokes").fingerprint()
    assert first.fingerprint() != ImageData("digit_pairs", source="strokes").fingerprint()
    for wrong in ({"image": "ink"}, {"source": "label"}):
        (name,) = wrong.values()
        with pytest.raises(GenaxError, match=f"no picture {name!r}; it has colour .Image., label"):
            ImageData("digit_pairs", **wrong).element  # noqa: B018
