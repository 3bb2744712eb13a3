"""Adaptive augmentation (ADA): its probability follows the discriminator's overfitting.

Karras et al. 2020 (arXiv:2006.06676), section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from genax.core.nets import read, write
from genax.core.task import Batch, Losses
from genax.gan.augmentation_pipeline import pipeline
from genax.gan.game import Scores, View

COLLECTION = "augmentation"


@dataclass(frozen=True)
class AdaptiveAugmentation:
    """Augmentation whose probability keeps the mean sign of real images' scores at a target.

    That mean, r_t of the paper, is 0 if the discriminator is lost and 1 if it knows the training
    images. After every few steps the probability moves up if the mean over them is above the target
    and down if below, within [0, 1]. The official code has no upper bound.

    The collection "augmentation" has the probability, the sum of the steps' mean signs, and the
    number of steps in it. All of them are linear in the batch, so the state is the same on every
    layout of devices.

    batch_size: images of a step, on all devices.
    target: of the mean sign.
    images: real images in which the probability goes from 0 to 1 at the most.
    every: steps between two moves of the probability.
    apply: (nets, batch, probability) -> view, the augmentations.
    """

    batch_size: int
    target: float = 0.6
    images: int = 500_000
    every: int = 4
    apply: Callable[[nn.Module, Batch, Any], View] = pipeline

    def __call__(self, nets: nn.Module, batch: Batch) -> View:
        """Return new augmentations for each element: the `augment` of `play`."""
        probability, _, _ = self._state(nets)
        return self.apply(nets, batch, probability)

    def follow(self, nets: nn.Module, real: Scores) -> dict[str, Float[Array, ""]]:
        """Count the signs of real images' scores in a step of the discriminator.

        Return the probability and the mean sign of this batch as metrics.
        """
        probability, signs, steps = self._state(nets)
        sign = jnp.sign(lax.stop_gradient(real)).mean()
        moved = {"probability": probability, "signs": signs + sign, "steps": steps + 1}
        for name, value in moved.items():
            write(nets, COLLECTION, name, value)
        return {"augmented": probability, "real_sign": sign}

    def _state(self, nets: nn.Module) -> tuple[Array, Array, Array]:
        """Return probability, sum of signs and steps, after a move that is due."""
        names = ("probability", "signs", "steps")
        probability, signs, steps = (
            read(nets, COLLECTION, name, lambda: jnp.zeros(())) for name in names
        )
        due = steps >= self.every - 0.5
        speed = self.batch_size * self.every / self.images
        moved = probability + speed * jnp.sign(signs / jnp.maximum(steps, 1) - self.target)
        return (
            jnp.where(due, jnp.clip(moved, 0, 1), probability),
            jnp.where(due, 0.0, signs),
            jnp.where(due, 0.0, steps),
        )


def adaptive_loss(
    nets: nn.Module,
    batch: Batch,
    loss: Callable[[nn.Module, Batch], Losses],
    augmentation: AdaptiveAugmentation,
) -> Losses:
    """Return the discriminator's loss, after which the augmentation follows the real scores.

    loss: such as `discriminator_loss` with this augmentation. A term of it has the metric
      "real_score".
    """
    found = loss(nets, batch)
    if isinstance(found, Mapping):
        followed = augmentation.follow(nets, found["game"].aux["real_score"])
        game = replace(found["game"], aux={**found["game"].aux, **followed})
        return {**found, "game": game}
    followed = augmentation.follow(nets, found.aux["real_score"])
    return replace(found, aux={**found.aux, **followed})
