"""A pool of earlier fakes, which a discriminator sees among new ones (Shrivastava et al. 2017)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.core.nets import per_example, read, write
from genax.core.task import Batch

# The collection, for `Task.summed`: each slot is written by one element of a batch at most.
POOL = "pool"


def check_pool(size: int, batch_size: int) -> None:
    """Raise GenaxError for a pool that holds less than a batch; 0 is no pool."""
    if 0 < size < batch_size:
        raise GenaxError(
            f"a pool of {size} images holds less than a batch of {batch_size}, of which each image "
            f"may take the place of one in the pool; choose pool_size={batch_size} or more, or 0 "
            "for no pool."
        )


def pooled(
    nets: nn.Module, batch: Batch, name: str, images: Float[Array, "b h w c"], size: int
) -> Float[Array, "b h w c"]:
    """Return for each image itself or an earlier one, whose place in the pool it takes.

    CycleGAN's code (Zhu et al. 2017): while the pool fills, each image is stored and returned. Then
    a coin decides whether an image is returned and forgotten, or stored in place of one drawn at
    random, which is returned. A batch of one is treated as there. The images of a larger batch
    draw different places, so that the pool does not depend on how a batch is split; those of the
    batch that fills the pool which find no place are returned and forgotten.

    name: of the pool among those of the task.
    size: images that it holds, at least the global batch; 0 is no pool.
    """
    if not size:
        return images
    # Two elements stand for a batch while shapes are found out.
    if not nets.is_initializing():
        check_pool(size, len(images))
    stored = read(nets, POOL, name, lambda: jnp.zeros((size, *images.shape[1:])))
    count = read(nets, POOL, f"{name}_count", lambda: jnp.zeros((), jnp.int32))
    order = jax.random.permutation(nets.make_rng("example"), size)
    coins = per_example(jax.random.bernoulli, nets, batch)

    place, full = count + batch["index"], count >= size
    fills = place < size
    swaps = full & coins
    slot = jnp.where(fills, place, order[batch["index"]])
    # A slot beyond the end is not written.
    changed = stored.at[jnp.where(fills | swaps, slot, size)].set(images, mode="drop")
    write(nets, POOL, name, changed)
    write(nets, POOL, f"{name}_count", count + jnp.where(full, 0, len(images)))
    return jnp.where(swaps[:, None, None, None], stored[slot], images)
