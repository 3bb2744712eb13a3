"""What a generator's latents hold: paths between images, and levels of truncation.

All are functions of samplers for `film_strip`: several images for each element, [b, k, h, w, c].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.nets import example_keys
from genax.core.task import Batch
from genax.gan.game import Draw, latents
from genax.nn.conditions import Condition, unconditional

Latents = Float[Array, "b z"]
Frames = Float[Array, "b k h w c"]
# (start, end, shares [k]) -> latents on the way from one to the other.
Path = Callable[[Latents, Latents, Float[Array, " k"]], Float[Array, "b k z"]]


def linear(start: Latents, end: Latents, shares: Float[Array, " k"]) -> Float[Array, "b k z"]:
    """Return points on straight lines. Those in the middle are shorter than normal latents."""
    return start[:, None] + shares[:, None] * (end - start)[:, None]


def spherical(start: Latents, end: Latents, shares: Float[Array, " k"]) -> Float[Array, "b k z"]:
    """Return points on great circles, as typical of a normal distribution as their ends.

    White 2016 (arXiv:1609.04468), section 2.
    """
    lengths = [jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (start, end)]
    cosine = (start * end).sum(-1, keepdims=True) / (lengths[0] * lengths[1])
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))[:, None]
    sine = jnp.sin(angle)
    shares = shares[:, None]
    turned = jnp.sin((1 - shares) * angle) * start[:, None] + jnp.sin(shares * angle) * end[:, None]
    # Ends that lie on one line through 0 have no circle between them.
    return jnp.where(
        sine > 1e-6, turned / jnp.maximum(sine, 1e-6), linear(start, end, shares[:, 0])
    )


def interpolate(
    nets: nn.Module,
    batch: Batch,
    path: Path = spherical,
    frames: int = 8,
    draw: Draw = jax.random.normal,
    condition: Condition = unconditional,
    inputs: Condition = unconditional,
) -> Frames:
    """Return images on the way from one latent to another, for each element.

    path: `linear` or `spherical`.
    draw, condition, inputs: see `generate`. An element's noise is one on its whole way.
    """
    start, end = latents(nets, batch, draw), latents(nets, batch, draw)
    ways = path(start, end, jnp.linspace(0, 1, frames))
    return made(nets, ways, {**condition(nets, batch), **inputs(nets, batch)})


def truncation_sweep(
    nets: nn.Module,
    batch: Batch,
    draws: Sequence[Draw],
    condition: Condition = unconditional,
    inputs: Condition = unconditional,
) -> Frames:
    """Return images of each element's latent by every one of several draws.

    draws: (key, shape) -> a latent, such as `truncated_normal` at several thresholds. All get the
      element's key, so they should turn the same numbers into nearer and farther latents.
    """
    keys = example_keys(nets, batch)
    shape = (nets.generator.latent_size,)
    drawn = [jax.vmap(lambda key, draw=draw: draw(key, shape))(keys) for draw in draws]
    return made(nets, jnp.stack(drawn, axis=1), {**condition(nets, batch), **inputs(nets, batch)})


def made(nets: nn.Module, z: Float[Array, "b k z"], given: dict[str, Any], **more: Any) -> Frames:
    """Return the images of several latents for each element.

    given: further arguments of the generator, of which those with a row for each element are
      shared by all of its latents.
    more: those with a row for each latent, [b k, ...], in place of those of `given`.
    """
    size, frames = z.shape[:2]

    def repeated(value):
        has_rows = isinstance(value, jax.Array) and value.ndim and len(value) == size
        return jnp.repeat(value, frames, axis=0) if has_rows else value

    given = {**jax.tree.map(repeated, given), **more}
    images = nets.generator(z.reshape(size * frames, -1), **given)
    return images.reshape(size, frames, *images.shape[1:])
