"""Clipping: the predicted clean image brought to the range of images."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core import GenaxError
from genax.diffusion.process import expand

# The predicted clean images -> those to go on with.
Clip = Callable[[Float[Array, "b ..."]], Float[Array, "b ..."]]


def clipped(clean: Float[Array, "b ..."], clip: bool | Clip) -> Float[Array, "b ..."]:
    """Return the clean images clipped to [-1, 1] (True), as they are (False), or by a function."""
    if callable(clip):
        return clip(clean)
    return clean.clip(-1.0, 1.0) if clip else clean


def dynamic_threshold(quantile: float = 0.995, largest: float | None = None) -> Clip:
    """Dynamic thresholding (Saharia et al. 2022, section 2.3).

    Each image is clipped to [-s, s] and divided by s. The bound s is a quantile of the image's
    absolute values, and at least 1.

    quantile: the share of values that are below the bound. Imagen's is 0.995.
    largest: most that the bound may be, None for any. With 1 this is plain clipping.
    Raises GenaxError for a quantile that is not from 0 to 1, and for a largest bound below 1.
    """
    if not 0 <= quantile <= 1 or (largest is not None and not largest >= 1):
        raise GenaxError(
            f"dynamic_threshold: quantile={quantile} has to be from 0 to 1 and largest={largest} "
            "None or at least 1."
        )

    def threshold(clean):
        values = jnp.abs(clean).reshape(len(clean), -1)
        bound = expand(jnp.quantile(values, quantile, axis=1).clip(1.0, largest), clean)
        return clean.clip(-bound, bound) / bound

    return threshold
