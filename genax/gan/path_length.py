"""Path length regularisation of a generator with styles (Karras et al. 2020, section 3.2)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.nets import per_example, pure, read, write
from genax.core.task import Batch, Loss
from genax.gan.game import Draw, latents
from genax.gan.penalties import path_length_penalty, path_lengths
from genax.gan.style_inputs import mixed
from genax.nn.conditions import Condition, unconditional


def style_lengths(
    nets: nn.Module,
    batch: Batch,
    draw: Draw = jax.random.normal,
    condition: Condition = unconditional,
    inputs: Condition = mixed,
    shrink: int = 2,
) -> Float[Array, " b"]:
    """Return the lengths of `path_lengths` of new images: `Phase.embed` of `path_length_loss`.

    draw, condition, inputs: see `play`.
    shrink: only every so many-th element of the batch at hand has an image, to save memory and
      time, and its length stands for all of them. A microbatch has other elements, so with
      shrink > 1 accumulation draws other images.
    """
    size = len(batch["index"])
    fewer = {name: part[::shrink] if jnp.ndim(part) else part for name, part in batch.items()}
    given = {**condition(nets, fewer), **inputs(nets, fewer)}
    noise = given.pop("noise")
    styles = nets.generator.styles(latents(nets, fewer, draw), **given, train=True)
    synthesise = pure(nets.generator, styles, noise, method="synthesise")
    shape = (nets.generator.image_size, nets.generator.image_size, nets.generator.channels)
    directions = per_example(jax.random.normal, nets, fewer, shape)
    lengths = path_lengths(lambda w: synthesise(w, noise), styles, directions)
    return jnp.repeat(lengths, shrink)[:size]


def path_length_loss(
    nets: nn.Module,
    batch: Batch,
    lengths: Float[Array, " b"],
    weight: float = 2.0,
    every: int = 1,
    decay: float = 0.01,
) -> Loss:
    """Return the penalty on lengths that differ from their running mean.

    The mean is the collection "path_length", 0 at the start.

    lengths: rows of the whole batch, of `style_lengths`.
    weight, decay: see `path_length_penalty`.
    every: of the phase; the penalty is multiplied by it, see `penalty_loss`.
    """
    mean = read(nets, "path_length", "mean", lambda: jnp.zeros(()))
    values, moved = path_length_penalty(lengths, mean, every * weight, decay)
    write(nets, "path_length", "mean", moved)
    return Loss(values, aux={"length": lengths})
