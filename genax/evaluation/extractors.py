"""What turns images into the features by which they are compared, and the features of data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float
from tqdm import tqdm

from genax.core import tree
from genax.core.data import Data, Shard
from genax.core.errors import GenaxError
from genax.evaluation.kept import kept
from genax.evaluation.pictures import CHANNELS

Pixels = Float[Array, "b h w c"]
Features = Float[np.ndarray, "_ d"]
# Images that an extractor works on at a time, on each device.
BATCH_SIZE = 50
# Seconds after which a bar appears.
BAR_AFTER = 5.0
RULE = "round((clip(x, -1, 1) + 1) * 127.5), halves to even"


@dataclass(frozen=True, eq=False)
class Extractor:
    """Features of images.

    name: what scores by these features are called by.
    features: (arrays, pixels) -> [b, d]. Pixels are whole numbers from 0 to 255 in float32.
    given: given(workdir) -> its arrays, such as weights.
    says: says(arrays) -> what a result says of it.
    classes: (arrays, pixels) -> int [b], if the extractor can also tell classes apart.
    """

    name: str
    features: Callable[[Any, Pixels], Array]
    given: Callable[[Any], Any]
    says: Callable[[Any], Mapping[str, Any]] = lambda arrays: {}
    classes: Callable[[Any, Pixels], Array] | None = None

    def described(self, arrays: Any) -> dict[str, Any]:
        """Return what a result says of it, with the SHA-256 of its arrays."""
        said = {"name": self.name, **self.says(arrays)}
        return {**said, "uint8_rule": RULE, "sha256": tree.digest(arrays)}


def pixels(images: Float[Array, "b h w c"]) -> Pixels:
    """Round images in [-1, 1] to the 256 values of a pixel, as float32 from 0 to 255.

    The rule is that of `image_grid`. NaN stays NaN, so that it reaches the score.
    """
    return jnp.round((jnp.clip(images.astype(jnp.float32), -1, 1) + 1) * 127.5)


def check_images(data: Data) -> None:
    """Raise GenaxError unless a data set has grey or RGB images in [-1, 1]. This reads no data."""
    name = named(data)
    shape = data.element["image"].shape if "image" in data.element else None
    if shape is None or len(shape) != 3 or shape[-1] not in CHANNELS:
        raise GenaxError(
            f"{name} has no images of 1 channel (grey) or 3 (RGB), but {dict(data.element)}; "
            "features are those of images: choose another data set, or leave this score out."
        )
    limits = tuple(getattr(data, "range", (-1.0, 1.0)))
    if limits != (-1.0, 1.0):
        raise GenaxError(
            f"images of {name} are in {limits}, but samples and data are compared in (-1.0, 1.0); "
            "leave the range of ImageData as it is."
        )


def features_of(data: Data, extractor: Extractor, arrays: Any, count: int) -> Features:
    """Return the features of the first `count` images of a data set, or of all if it has fewer.

    They are computed once for all runs and kept in the cache. If it takes long, a bar counts the
    images on a terminal.
    arrays: those that the extractor gave.
    """
    key = key_of(data.fingerprint(), extractor.described(arrays)["sha256"], count)
    name = f"features/{extractor.name}-{key}"
    return kept(name, lambda folder: _computed(data, extractor, arrays, count))["features"]


def key_of(*facts: Any) -> str:
    """Return a name for what is made of these facts alone."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def named(data: Data) -> str:
    """Return what a person calls a data set: its name and split."""
    name, split = (getattr(data, part, "") for part in ("name", "split"))
    return f"{name}[{split}]" if name and split else str(name or data)


def _computed(data: Data, extractor: Extractor, arrays: Any, count: int) -> dict[str, Features]:
    devices = np.array(jax.local_devices())
    split = NamedSharding(Mesh(devices, ("batch",)), PartitionSpec("batch"))
    arrays = jax.device_put(arrays, NamedSharding(split.mesh, PartitionSpec()))
    compute = jax.jit(lambda arrays, images: extractor.features(arrays, pixels(images)))
    rows, about = [], f"{extractor.name} features of {named(data)}"
    with tqdm(desc=about, unit="image", delay=BAR_AFTER, disable=None, leave=False) as bar:
        found = 0
        for batch in data.evaluate(BATCH_SIZE * len(devices), Shard()):
            new = np.asarray(compute(arrays, jax.device_put(batch["image"], split)))
            rows.append(new[np.asarray(batch["mask"]) > 0])
            found += len(rows[-1])
            bar.update(len(rows[-1]))
            if found >= count:
                break
    return {"features": np.concatenate(rows)[:count]}
