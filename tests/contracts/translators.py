"""Plain layers in place of the networks that translate images, and of those that judge them.

An instance norm takes away the bias before it, whose gradient is then nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from tests.contracts.layers import MLP

IMAGE = (8, 8, 3)


class Translator(MLP):
    """Layers from images to images."""

    def __call__(self, image, train=False):
        return jnp.tanh(super().__call__(image))


class Judge(MLP):
    """Layers from images to the scores of four patches."""

    def __call__(self, image, source=None, train=False):
        return super().__call__(image)


def networks(dtype: Any) -> Mapping[str, MLP]:
    """Return the networks of CycleGAN."""
    return {
        **{name: Translator(IMAGE, dtype=dtype) for name in ("to_a", "to_b")},
        **{f"discriminator_{name}": Judge((2, 2), dtype=dtype) for name in ("a", "b")},
    }
