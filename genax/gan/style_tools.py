"""What styles hold: truncation and mixing, as functions of samplers for `film_strip`."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from genax.core.task import Batch
from genax.gan.game import Draw, latents
from genax.gan.latents import Frames, made
from genax.gan.style_inputs import with_noise
from genax.nn.conditions import Condition, unconditional


def style_truncation_sweep(
    nets: nn.Module,
    batch: Batch,
    levels: Sequence[float] = (1.0, 0.7, 0.5, 0.0, -0.5, -1.0),
    draw: Draw = jax.random.normal,
    condition: Condition = unconditional,
    inputs: Condition = with_noise,
) -> Frames:
    """Return images of each element's style at several levels of truncation.

    Karras et al. 2019, figure 8: 0 is the mean image, and below it are opposite images.
    """
    z = latents(nets, batch, draw)
    z = jnp.broadcast_to(z[:, None], (len(z), len(levels), z.shape[-1]))
    truncation = jnp.tile(jnp.asarray(levels), len(z))
    given = {**condition(nets, batch), **inputs(nets, batch)}
    return made(nets, z, given, truncation=truncation)


def style_mixing_grid(
    nets: nn.Module,
    batch: Batch,
    columns: int = 6,
    layers: int | None = None,
    seed: int = 0,
    draw: Draw = jax.random.normal,
    condition: Condition = unconditional,
    inputs: Condition = with_noise,
    truncation: float = 1.0,
) -> Frames:
    """Return a row for each element: its image, then that image in the coarse styles of others.

    Karras et al. 2019, figure 3. The others are the same in all rows. The row of index 0 shows
    them as they are, after a white image.

    columns: how many others there are.
    layers: how many of the first layers get the other's styles; None is half of all.
    seed: of the others' latents.
    """
    z, shape = latents(nets, batch, draw), (nets.generator.latent_size,)
    keys = jax.random.split(jax.random.key(seed), columns)
    others = jax.vmap(lambda key: draw(key, shape))(keys)
    size, heads = len(z), batch["index"] == 0
    first = jnp.concatenate([z[:, None], jnp.broadcast_to(others, (size, *others.shape))], axis=1)
    # Second latents give the styles of the layers from the crossover on.
    every = nets.generator.num_styles
    crossover = jnp.where(heads, every, layers or every // 2)
    given = {**condition(nets, batch), **inputs(nets, batch)}
    found = made(
        nets,
        first,
        {**given, "second": z, "crossover": crossover, "truncation": truncation},
    )
    blank = heads[:, None] & (jnp.arange(columns + 1) == 0)
    return jnp.where(blank[..., None, None, None], 1.0, found)
