"""Statistics of BatchNorm that are made anew for the networks that samples are drawn from."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from genax.core.task import Batch
from genax.gan.game import Draw, latents
from genax.nn.conditions import Condition, unconditional
from genax.nn.norms import BatchNorm

STATISTICS = "batch_stats"


def standing_images(
    nets: nn.Module,
    batch: Batch,
    draw: Draw = jax.random.normal,
    condition: Condition = unconditional,
    passes: int = 16,
    size: int = 64,
    num_classes: int = 0,
) -> Float[Array, "b h w c"]:
    """Return one image for each element, made with the mean moments of several batches of samples.

    Brock et al. 2019 (arXiv:1809.11096), appendix C ("standing statistics"). An average of the
    generator never made the batches whose moments are its running statistics, and truncated latents
    have other ones. The batches are the same for all elements, so an image does not depend on which
    are drawn with it. Each call makes them anew.

    draw: of latents. condition: (nets, batch) -> keyword arguments of the generator.
    passes, size: batches, and samples in each.
    num_classes: classes of the batches' labels, which are as frequent as each other; 0 is none.
    """
    z = latents(nets, batch, draw)
    images = {"index": jnp.arange(size)}
    if num_classes:
        images["label"] = images["index"] % num_classes
    others = jnp.stack([latents(nets, images, draw) for _ in range(passes)])
    given = condition(nets, images)
    generator, variables = nets.generator.unbind()
    own = variables[STATISTICS]
    zero = jax.tree.map(jnp.zeros_like, own)

    def moments(z):
        """The moments of a batch, times what a running average takes of them."""
        start = {**variables, STATISTICS: zero}
        _, moved = generator.apply(start, z, **given, train=True, mutable=[STATISTICS])
        return moved[STATISTICS]

    def added(total, z):
        return jax.tree.map(jnp.add, total, moments(z)), None

    total, _ = lax.scan(added, zero, others)
    factor = passes * (1 - BatchNorm.momentum)
    standing = jax.tree.map(lambda moment: moment / factor, total)
    return generator.apply({**variables, STATISTICS: standing}, z, **condition(nets, batch))
