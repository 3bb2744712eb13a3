"""Random jitter of images and of what they are made of, alike."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image


def jittered(
    example: Mapping[str, np.ndarray], rng: np.random.Generator, margin: int
) -> dict[str, np.ndarray]:
    """Enlarge an image (bicubic) by so many pixels a side and cut its old size out of it at random.

    Isola et al. 2017, appendix 6.2: 256x256 images are enlarged to 286x286. "source" is cut where
    "image" is. It is a transform of `ImageData` once `margin` is given.
    """
    top, left = (int(corner) for corner in rng.integers(0, margin + 1, 2))
    changed = {}
    for name in ("image", "source"):
        if name in example:
            height, width = example[name].shape[:2]
            large = _resized(example[name], height + margin, width + margin)
            changed[name] = large[top : top + height, left : left + width]
    return {**example, **changed}


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    planes = [
        Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC)
        for plane in np.moveaxis(image, -1, 0)
    ]
    resized = np.stack([np.asarray(plane) for plane in planes], axis=-1)
    # Bicubic interpolation goes beyond black and white beside an edge.
    return np.clip(resized, image.min(), image.max())
