"""Feature matching: fakes whose features have the mean of those of real images."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genax.core.task import Batch, Loss
from genax.gan.game import Augment, Draw, latents, unchanged
from genax.nn.conditions import Condition, unconditional


def matched_features(
    nets: nn.Module,
    batch: Batch,
    draw: Draw = jax.random.normal,
    condition: Condition = unconditional,
    augment: Augment = unchanged,
) -> dict[str, Any]:
    """Return the discriminator's features of real images and of fakes, for `Phase.embed`.

    They are what `nets.discriminator(images, features=True)` returns, one row for each image.

    draw, condition, augment: see `play`.
    """
    given = condition(nets, batch)
    fakes = nets.generator(latents(nets, batch, draw), **given, train=True)

    def features(images):
        seen = augment(nets, batch)(images)
        found = nets.discriminator(seen, **given, train=True, features=True)
        return found.reshape(len(images), -1)

    return {"real": jax.lax.stop_gradient(features(batch["image"])), "fake": features(fakes)}


def feature_matching_loss(nets: nn.Module, batch: Batch, rows: dict[str, Any]) -> Loss:
    """Return |mean f(x) - mean f(G(z))|^2, the generator's objective, with f the features.

    Salimans et al. 2016 (arXiv:1606.03498), section 3.1. The means are those of the global batch,
    so the features are rows: see `matched_features`.
    """
    gap = rows["real"].mean(0) - rows["fake"].mean(0)
    return Loss(jnp.square(gap).sum()[None])
