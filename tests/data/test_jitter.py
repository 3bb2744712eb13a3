"""Jitter: an image is enlarged and cut, and what it is made of with it."""

from __future__ import annotations

from functools import partial

import numpy as np

from genax.core.data import Shard
from genax.data import ImageData
from genax.data.jitter import jittered


def test_an_image_and_its_source_are_cut_at_one_place():
    ramp = np.broadcast_to(np.linspace(-1, 1, 16, dtype=np.float32)[:, None, None], (16, 16, 1))
    example = {"image": ramp, "source": -ramp, "label": np.int32(3)}
    seen = set()
    for seed in range(20):
        found = jittered(example, np.random.default_rng(seed), margin=4)
        assert found["image"].shape == ramp.shape
        np.testing.assert_allclose(found["source"], -found["image"], atol=1e-6)
        assert found["image"].min() >= -1
        assert found["label"] == 3
        seen.add(round(float(found["image"][0, 0, 0]), 3))
    assert len(seen) > 3


def test_it_is_a_transform_of_image_data():
    jitter = partial(jittered, margin=3)
    data = ImageData("digit_pairs", source="strokes", transform=jitter)
    batch = next(data.train(8, 0, Shard()))
    plain = next(ImageData("digit_pairs", source="strokes").train(8, 0, Shard()))
    assert all((batch[name] != plain[name]).any() for name in ("image", "source"))
    other = ImageData("digit_pairs", source="strokes", transform=partial(jittered, margin=2))
    assert data.fingerprint() != other.fingerprint()
