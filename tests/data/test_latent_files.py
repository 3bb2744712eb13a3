"""Latents of a user's own files, in the place of images."""

import jax
import numpy as np
import pytest

from genax.core import GenaxError
from genax.core.data import Shard
from genax.data.latent_files import LatentFiles


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(12, 4, 4, 3)).astype(np.float16)
    label = np.arange(12) % 5
    arrays = {"train_latent": latent[:10], "train_label": label[:10]}
    arrays |= {"test_latent": latent[10:], "test_label": label[10:]}
    np.savez(tmp_path / "latents.npz", **arrays)
    return tmp_path / "latents.npz"


def test_rows_are_read_as_they_are(path):
    data = LatentFiles(f"npz:{path}", 4, 3, "train", classes=5)
    with np.load(path) as arrays:
        latent, label = arrays["train_latent"], arrays["train_label"]
    batches = list(data.evaluate(4, Shard()))
    real = np.concatenate([batch["mask"] for batch in batches]) > 0
    assert real.sum() == 10
    found = {name: np.concatenate([b[name] for b in batches])[real] for name in data.element}
    np.testing.assert_array_equal(found["image"], latent.astype(np.float32))
    np.testing.assert_array_equal(found["label"], label)
    batch = next(data.train(6, 0, Shard()))
    np.testing.assert_array_equal(batch["image"], found["image"][batch["id"]])
    np.testing.assert_array_equal(batch["label"], label[batch["id"]])
    for name, spec in data.element.items():
        assert batch[name].dtype == spec.dtype
        assert batch[name].shape == (6, *spec.shape)


def test_the_fingerprint_is_of_the_rows_and_not_of_the_place(path, tmp_path):
    expected = LatentFiles(f"npz:{path}", 4, 3).fingerprint()
    moved = path.rename(tmp_path / "other.npz")
    assert LatentFiles(f"npz:{moved}", 4, 3).fingerprint() == expected
    with np.load(moved) as arrays:
        np.savez(path, latent=arrays["train_latent"] + 1, label=arrays["train_label"])
    assert LatentFiles(f"npz:{path}", 4, 3).fingerprint() != expected


def test_shapes_are_known_without_files():
    element = LatentFiles("npz:nowhere", 32, 4, classes=1000).element
    assert element["image"] == jax.ShapeDtypeStruct((32, 32, 4), np.float32)
    assert set(LatentFiles("npz:nowhere", 32, 4).element) == {"image"}


def test_what_is_refused(path):
    name = f"npz:{path}"
    np.savez(path.parent / "images.npz", image=np.zeros((3, 4, 4, 3), np.uint8))
    for data, said in (
        (LatentFiles("fashion_mnist", 4, 3), "fashion_mnist names no latents: .* npz:PATH"),
        (LatentFiles(f"npz:{path.parent / 'images.npz'}", 4, 3), "has no array 'latent'"),
        (LatentFiles(name, 8, 3), r"have the shape \(4, 4, 3\), but the settings make it \(8"),
        (LatentFiles(name, 4, 3, "third"), "third"),
        (LatentFiles("npz:nowhere", 4, 3), "nowhere"),
    ):
        with pytest.raises(GenaxError, match=said):
            data.fingerprint()
    with pytest.raises(GenaxError, match="label"):
        next(LatentFiles(name, 4, 3, classes=4).train(12, 0, Shard()))
