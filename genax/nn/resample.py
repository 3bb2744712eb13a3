"""Changes of resolution by two without weights, of images in NHWC."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.errors import GenaxError


def average_downsample(x: Float[Array, "b h w c"]) -> Float[Array, "b H W c"]:
    """Return the means of 2x2 pixels."""
    return block_means(x, 2)


def block_means(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b H W c"]:
    """Return the means of blocks of size x size pixels."""
    b, h, w, c = x.shape
    return x.reshape(b, h // size, size, w // size, size, c).mean((2, 4))


def fir_downsample(x: Float[Array, "b h w c"]) -> Float[Array, "b H W c"]:
    """Filter by (1, 3, 3, 1) / 8 along both axes, with zeros outside, and keep every second pixel.

    It is StyleGAN2's and NCSN++'s resampling (Karras et al. 2020, appendix B; Song et al. 2021,
    appendix H).
    """
    for axis in (1, 2):
        x = _filtered(x, axis, 1, stride=2)
    return x


def fir_upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b H W c"]:
    """Put zeros between pixels and filter by (1, 3, 3, 1) / 4 along both axes.

    Pixels outside are zero. See `fir_downsample`.
    """
    for axis in (1, 2):
        padded = _padded(x, axis, 1)
        before, here, after = (
            _part(padded, axis, slice(start, start + x.shape[axis])) for start in range(3)
        )
        both = jnp.stack([before + 3 * here, 3 * here + after], axis=axis + 1) / 4
        x = both.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return x


def fir_blur(x: Float[Array, "b h w c"], padding: int) -> Float[Array, "b H W c"]:
    """Filter by (1, 3, 3, 1) / 8 along both axes.

    padding: rows (and columns) of zeros before and after.
    """
    for axis in (1, 2):
        x = _filtered(x, axis, padding, stride=1)
    return x


def _filtered(x: Array, axis: int, padding: int, stride: int) -> Array:
    x = _padded(x, axis, padding)
    count = (x.shape[axis] - 4) // stride + 1
    taps = [
        _part(x, axis, slice(start, start + stride * (count - 1) + 1, stride)) for start in range(4)
    ]
    return (taps[0] + taps[3] + 3 * (taps[1] + taps[2])) / 8


def _padded(x: Array, axis: int, padding: int) -> Array:
    return jnp.pad(x, [(padding, padding) if number == axis else (0, 0) for number in range(4)])


def _part(x: Array, axis: int, part: slice) -> Array:
    return x[(slice(None),) * axis + (part,)]


def binomial_blur(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Filter by (1, 2, 1) / 4 along both axes, with zeros outside: the blur of StyleGAN.

    Karras et al. 2019 (arXiv:1812.04948), section 2.
    """
    for axis in (1, 2):
        padded = _padded(x, axis, 1)
        before, after = (
            _part(padded, axis, slice(start, start + x.shape[axis])) for start in (0, 2)
        )
        x = (before + 2 * x + after) / 4
    return x


def check_halvings(network: Any, x: Array) -> None:
    """Check that images can be halved as often as a network with multipliers does.

    Raises GenaxError if not.
    """
    count = len(network.multipliers)
    factor = 2 ** (count - 1)
    if x.ndim != 4 or x.shape[1] % factor or x.shape[2] % factor:
        raise GenaxError(
            f"{type(network).__name__} got images of shape {x.shape}: with {count} multipliers it "
            f"needs [b, h, w, c] with h and w multiples of {factor}; pad them, or use fewer "
            "multipliers."
        )
