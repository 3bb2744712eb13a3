"""Statistics of BatchNorm that are made anew for the networks that samples are drawn from."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from genax.core.nets import per_example
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
    num_classes: classes of the batches' labels, which are drawn evenly; 0 is no labels.
    """
    z = latents(nets, batch, draw)
    others = {"index": jnp.arange(passes * size)}
    if num_classes:
        others["label"] = per_example(jax.random.randint, nets, others, (), 0, num_classes)
    batches = jax.tree.map(
        lambda rows: rows.reshape(passes, size, *rows.shape[1:]),
        (latents(nets, others, draw), condition(nets, others)),
    )
    generator, variables = nets.generator.unbind()
    zero = jax.tree.map(jnp.zeros_like, variables[STATISTICS])

    def added(total, one):
        """Add the moments of a batch, times what a running average takes of them."""
        z, given = one
        start = {**variables, STATISTICS: zero}
        _, moved = generator.apply(start, z, **given, train=True, mutable=[STATISTICS])
        return jax.tree.map(jnp.add, total, moved[STATISTICS]), None

    total, _ = lax.scan(added, zero, batches)
    factor = passes * (1 - BatchNorm.momentum)
    standing = jax.tree.map(lambda moment: moment / factor, total)
    return generator.apply({**variables, STATISTICS: standing}, z, **condition(nets, batch))
