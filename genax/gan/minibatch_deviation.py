"""How much the images of a batch differ, as a feature of a discriminator."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from genax.core import GenaxError, batch_axis
from genax.core.nets import PART

EPSILON = 1e-8


def minibatch_deviation(
    x: Float[Array, "b h w c"], group_size: int = 4
) -> Float[Array, "b h w c+1"]:
    """Return x with one more channel, which tells how much features deviate within a group.

    Karras et al. 2018 (arXiv:1710.10196), section 3. As in the official code, the images of a batch
    of n are in groups whose members are n / group_size apart. The deviation of each feature over
    its group is averaged over features and pixels. A batch of fewer images is one group.

    Groups are those of the global batch on any layout. What other devices hold is gathered. A
    microbatch holds each k-th image, and so whole groups if `group_size` divides its size.

    Raises GenaxError for a batch that groups do not divide.
    """
    axis, everything = batch_axis(), x.astype(jnp.float32)
    if axis is not None:
        everything = lax.all_gather(everything, axis, tiled=True)
    own, count = len(x), len(everything)
    size = group_size if PART.get() == "microbatch" else min(group_size, count)
    if count % size:
        raise GenaxError(
            f"minibatch deviation compares groups of {size} images, which do not divide the "
            f"{count} that a discriminator sees at a time; choose a batch size (that of each "
            f"resolution, divided by config.accumulate) that is a multiple of {size}."
        )
    groups = everything.reshape(size, count // size, *x.shape[1:])
    deviation = jnp.sqrt(jnp.var(groups, axis=0) + EPSILON).mean((1, 2, 3))
    of_each = jnp.tile(deviation, size)
    if axis is not None:
        of_each = lax.dynamic_slice_in_dim(of_each, lax.axis_index(axis) * own, own)
    channel = jnp.broadcast_to(of_each[:, None, None, None], (*x.shape[:-1], 1))
    return jnp.concatenate([x, channel.astype(x.dtype)], axis=-1)
