"""Features of TensorFlow Datasets as fields."""

from __future__ import annotations

import numpy as np
import pytest
from tensorflow_datasets import features as tfds

from genax.data.fields import Image, Label, Labels, Number, Numbers, Other, Real, Text, Texts
from genax.data.sets.tfds_fields import fields_of


@pytest.mark.parametrize(
    ("feature", "field"),
    [
        (tfds.Image(shape=(28, 28, 1)), Image(28, 28, 1)),
        (tfds.Image(), Image(None, None, 3)),
        (tfds.Tensor(shape=(4, 4, 3), dtype=np.uint8), Image(4, 4, 3)),
        (tfds.Tensor(shape=(4, 4, 3), dtype=np.float32), Other("Tensor")),
        (tfds.ClassLabel(num_classes=3), Label(3)),
        (tfds.Scalar(np.int64), Number()),
        (tfds.Scalar(np.bool_), Number()),
        (tfds.Scalar(np.float64), Real()),
        (tfds.Text(), Text()),
        (tfds.Tensor(shape=(None,), dtype=np.uint8), Text()),
        (tfds.Tensor(shape=(None,), dtype=np.float32), Other("Tensor")),
        (tfds.Sequence(tfds.Text()), Texts()),
        (tfds.Sequence(tfds.ClassLabel(num_classes=3)), Labels(3)),
        (tfds.Sequence(np.int32), Numbers()),
        (tfds.Sequence(np.float32), Other("Sequence")),
        (tfds.Sequence(tfds.Sequence(np.int32)), Other("Sequence")),
    ],
)
def test_a_feature_is_a_field(feature, field):
    assert fields_of(tfds.FeaturesDict({"x": feature})) == {"x": field}


def test_features_within_features():
    features = tfds.FeaturesDict(
        {
            "answers": tfds.Sequence({"text": tfds.Text(), "start": np.int32}),
            "pair": tfds.Translation(languages=["de", "en"]),
            "steps": tfds.Dataset({"reward": np.float32}),
        }
    )
    assert fields_of(features) == {
        "answers/text": Texts(),
        "answers/start": Numbers(),
        "pair/de": Text(),
        "pair/en": Text(),
        "steps/reward": Other("Sequence"),
    }
