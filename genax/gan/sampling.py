"""Samples from a generator."""

from __future__ import annotations

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from genax.core.task import Batch
from genax.gan.game import Draw, latents
from genax.nn.conditions import Condition, unconditional


def generate(
    nets: nn.Module,
    batch: Batch,
    draw: Draw = jax.random.normal,
    condition: Condition = unconditional,
    inputs: Condition = unconditional,
) -> Float[Array, "b ..."]:
    """Return one sample for each element of batch["index"], made with the running statistics.

    draw: of latents.
    condition, inputs: (nets, batch) -> keyword arguments of the generator, see `play`.
    """
    given = {**condition(nets, batch), **inputs(nets, batch)}
    return nets.generator(latents(nets, batch, draw), **given)
