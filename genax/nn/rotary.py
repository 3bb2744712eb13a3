"""Rotary positions: rotation of queries and keys by angles that grow with the position."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from genax.core.errors import GenaxError
from genax.core.mesh import platform
from genax.nn.derivatives import set_reverse_rule
from genax.settings.ranges import COUNT, POSITIVE, check_fields

Rotation = tuple[Float[Array, "#b t half"], Float[Array, "#b t half"]]


@dataclass(frozen=True)
class LongContext:
    """Llama 3.1's stretching of slow frequencies (Grattafiori et al. 2024, section 3.4.1).

    The paper names the base alone. The rule is that of its published code: wavelengths above
    original_context / low_factor grow by `factor`, those below original_context / high_factor stay,
    and those between are blended.

    factor: growth of the long wavelengths.
    low_factor, high_factor: bounds of the blended wavelengths, as above.
    original_context: tokens of the context before stretching.
    """

    factor: float = 8.0
    low_factor: float = 1.0
    high_factor: float = 4.0
    original_context: int = 8192

    def __post_init__(self):
        positive = dict.fromkeys(("factor", "low_factor", "high_factor"), POSITIVE)
        check_fields(self, **positive, original_context=COUNT)
        if self.low_factor >= self.high_factor:
            raise GenaxError(
                f"LongContext: low_factor={self.low_factor} must be below "
                f"high_factor={self.high_factor}."
            )


def rotary_frequencies(
    head_dim: int, theta: float = 10_000.0, scaling: LongContext | None = None
) -> Float[np.ndarray, " half"]:
    """Return theta^(-2 i / head_dim), in radians per position: Su et al. 2021, section 3.2.2."""
    # float32 as in the code that published weights were trained with. At a far position, a rounding
    # error of the frequency is some thousand times as large in the angle.
    powers = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies = 1 / np.power(np.float32(theta), powers)
    if scaling is None:
        return frequencies
    turns = scaling.original_context * frequencies / (2 * math.pi)
    span = scaling.high_factor - scaling.low_factor
    kept = np.clip((turns - scaling.low_factor) / span, 0, 1)
    return ((1 - kept) * frequencies / scaling.factor + kept * frequencies).astype(np.float32)


def rotation(positions: Int[Array, "#b t"], frequencies: Float[np.ndarray, " half"]) -> Rotation:
    """Return cosine and sine of position times frequency, float32."""
    angles = positions[..., None].astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: Float[Array, "b t n h"], by: Rotation) -> Float[Array, "b t n h"]:
    """Rotate the pairs (x_i, x_{i + h/2}) of each head: Su et al. 2021, eq. 34.

    The paper pairs neighbours. Halves, as in most published weights, are the same up to the order
    of the rows of the query and key projections.
    """
    return _by_product(x, by) if platform() == "tpu" else _by_halves(x, by)


def _by_halves(x: Float[Array, "b t n h"], by: Rotation) -> Float[Array, "b t n h"]:
    cos, sin = (part[:, :, None] for part in by)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = (first * cos - second * sin, second * cos + first * sin)
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


@jax.custom_jvp
def _by_product(x: Float[Array, "b t n h"], by: Rotation) -> Float[Array, "b t n h"]:
    """Rotate as `_by_halves` does, to the last bit, in whole heads.

    Half a head would leave lanes of a TPU idle. A product with a constant makes the halves change
    places, one of them with its sign flipped.
    """
    cos, sin = (jnp.concatenate((part, part), axis=-1)[:, :, None] for part in by)
    half = x.shape[-1] // 2
    turn = np.kron(((0, 1), (-1, 0)), np.eye(half))
    # The product is exact, since each sum has one term that is not 0. At a lower precision a TPU
    # would round float32.
    turned = jnp.dot(x, jnp.asarray(turn, x.dtype), precision=lax.Precision.HIGHEST)
    return (x.astype(jnp.float32) * cos + turned.astype(jnp.float32) * sin).astype(x.dtype)


def _forward(x, by):
    return _by_product(x, by), (x, by)


def _backward(residuals, gradient):
    # The transpose of the product would round what it adds up, and rematerialisation policies would
    # keep the product.
    x, (cos, sin) = residuals
    _, pull = jax.vjp(partial(_by_halves, x), (cos, sin))
    return _by_product(gradient, (cos, -sin)), *pull(gradient)


set_reverse_rule(_by_product, _forward, _backward)
