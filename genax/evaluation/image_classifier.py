"""A small convolutional classifier, trained on a data set to compare samples with it."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from genax.core import tree
from genax.core.data import Data, Shard
from genax.core.errors import GenaxError
from genax.evaluation.classifier import check_labelled
from genax.evaluation.extractors import Extractor, Pixels, check_images, key_of, named, pixels
from genax.evaluation.kept import kept
from genax.nn.convolution import Conv

WIDTH, BATCH_SIZE, RATE = 128, 128, 2e-3
TESTED_ON = 10_000


class ImageClassifier(nn.Module):
    """Convolutions that halve the image until it is 4 x 4 or less, and two dense layers."""

    num_classes: int

    @nn.compact
    def __call__(self, image: Pixels) -> tuple[Float[Array, "b 128"], Float[Array, "b n"]]:
        """Return the features before the last layer, and logits."""
        x = (image - 127.5) / 127.5
        features = WIDTH // 4
        while max(x.shape[1:3]) > 4:
            x = nn.relu(Conv(features, strides=(2, 2))(x))
            features = min(2 * features, WIDTH)
        x = nn.relu(nn.Dense(WIDTH)(x.reshape(len(x), -1)))
        return x, nn.Dense(self.num_classes)(x)


def image_classifier(train: Data, test: Data, steps: int = 2000) -> Extractor:
    """Return the extractor "classifier": 128 features of a classifier of labelled images.

    It is trained when it is first needed, and kept for all runs. Two machines train two classifiers
    that differ by rounding, and so do distances by them; the SHA-256 in a result tells which.

    train, test: labelled images of one shape. test says how well it classifies.
    steps: of Adam, with 128 images each.
    Raises GenaxError, before data is read, for data without images or classes.
    """
    for data in (train, test):
        check_labelled(data)
        check_images(data)
    num_classes = getattr(train, "num_classes", None)
    if num_classes is None or num_classes < 2:
        raise GenaxError(
            f"{named(train)} has no classes to tell apart; choose a set of two or more classes, or "
            "leave the scores by a classifier out."
        )
    network = ImageClassifier(num_classes)

    @cache
    def weights() -> dict[str, Any]:
        data = (train.fingerprint(), test.fingerprint())
        key = key_of(*data, WIDTH, num_classes, steps, BATCH_SIZE, RATE)

        def make(folder: Path) -> dict[str, np.ndarray]:
            params = _trained(network, train, steps)
            accuracy = np.float32(_accuracy(network, params, test))
            return {**tree.flatten(jax.device_get(params)), "test_accuracy": accuracy}

        return tree.nest(kept(f"extractors/classifier-{key}", make))

    def says(arrays: Any) -> dict[str, Any]:
        return {
            "network": f"convolutions and two dense layers, {WIDTH} features before the last",
            "trained_on": named(train),
            "steps": steps,
            "test_accuracy": round(float(arrays["test_accuracy"]), 4),
            "resize_filter": "none",
            "precision": "float32",
        }

    def features(arrays: Any, image: Pixels) -> Float[Array, "b 128"]:
        return _apply(network, arrays, image)[0]

    def classes(arrays: Any, image: Pixels) -> Int[Array, " b"]:
        return _apply(network, arrays, image)[1].argmax(-1)

    return Extractor("classifier", features, lambda workdir: weights(), says, classes)


def _apply(network: ImageClassifier, arrays: Any, image: Pixels) -> Any:
    params = {name: array for name, array in arrays.items() if name != "test_accuracy"}
    # Other devices multiply float32 in fewer bits unless told otherwise.
    with jax.default_matmul_precision("highest"):
        return network.apply({"params": params}, image)


def _trained(network: ImageClassifier, train: Data, steps: int) -> Any:
    """Return the parameters after `steps` steps."""
    shape = train.element["image"].shape
    params = network.init(jax.random.key(0), jnp.zeros((1, *shape)))["params"]
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, steps))
    state = optimizer.init(params)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, images, labels):
        def loss(params):
            _, logits = _apply(network, params, pixels(images))
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    batches = train.train(BATCH_SIZE, 0, Shard())
    for _ in range(steps):
        batch = next(batches)
        params, state = step(params, state, batch["image"], batch["label"])
    return params


def _accuracy(network: ImageClassifier, params: Any, test: Data) -> float:

    @jax.jit
    def classes(images):
        return _apply(network, params, pixels(images))[1].argmax(-1)

    right, seen = 0, 0
    for batch in test.evaluate(500, Shard()):
        real = np.asarray(batch["mask"]) > 0
        found = np.asarray(classes(batch["image"])) == batch["label"]
        right, seen = right + int(found[real].sum()), seen + int(real.sum())
        if seen >= TESTED_ON:
            break
    return right / seen
