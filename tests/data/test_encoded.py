"""Latents that are made as data is read, and latents that are whole numbers."""

import dataclasses

import jax
import numpy as np

from genax.core.data import Shard
from genax.data import ImageData, Latents
from genax.data.binarised import Binarised
from genax.data.encoded import Encoded, latents_of

DIGITS = ImageData("digits", "test[:20]", range=(0, 1))


@dataclasses.dataclass(frozen=True)
class Counts:
    """How many pixels of each quarter of an image are above a half."""

    inputs: tuple[str, ...] = ("image",)

    def fingerprint(self):
        return "counts"

    def outputs(self, element):
        return {"latent": jax.ShapeDtypeStruct((2, 2), np.int32)}

    def load(self):
        def encode(batch):
            ones = (batch["image"] > 0.5).reshape(-1, 2, 4, 2, 4)
            return {"latent": ones.sum((2, 4)).astype(np.int32)}

        return encode


def test_whole_numbers_are_kept_as_they_are(cache):
    data = Latents(DIGITS, Counts())
    assert data.element["latent"] == jax.ShapeDtypeStruct((2, 2), np.int32)
    (images,) = DIGITS.evaluate(20, Shard())
    expected = Counts().load()(images)["latent"]
    for batch in (next(data.evaluate(20, Shard())), next(data.train(20, 0, Shard()))):
        assert batch["latent"].dtype == np.int32
        np.testing.assert_array_equal(batch["latent"], expected[batch["id"]])


def test_data_that_changes_is_encoded_at_each_reading(cache):
    binary = Binarised(DIGITS, "dynamic")
    data = latents_of(binary, Counts())
    assert isinstance(data, Encoded)
    assert set(data.element) == {"latent", "label"}
    batches, images = data.train(20, 0, Shard()), binary.train(20, 0, Shard())
    seen = []
    for _ in range(2):
        batch, image = next(batches), next(images)
        assert set(batch) == {"latent", "label", "id"}
        np.testing.assert_array_equal(batch["id"], image["id"])
        np.testing.assert_array_equal(batch["latent"], Counts().load()(image)["latent"])
        seen.append(batch["latent"][np.argsort(batch["id"])])
    assert (seen[0] != seen[1]).any()
    resumed = data.train(20, 0, Shard())
    resumed.set_state(batches.get_state())
    np.testing.assert_array_equal(next(resumed)["latent"], next(batches)["latent"])
    scored = next(data.evaluate(20, Shard()))
    assert set(scored) == {"latent", "label", "id", "mask"}
    assert not (cache / "latents").exists()
    assert data.fingerprint() != latents_of(DIGITS, Counts()).fingerprint()


def test_data_that_stays_is_encoded_once():
    for data in (DIGITS, Binarised(DIGITS, "static"), Binarised(DIGITS, "threshold")):
        assert isinstance(latents_of(data, Counts()), Latents)
    flipped = dataclasses.replace(DIGITS, flip=True)
    for data in (flipped, Binarised(flipped, "static")):
        assert isinstance(latents_of(data, Counts()), Encoded)
