"""Losses of the discriminator and of the generator, for any game and penalties."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from genax.core.task import Batch, Loss, Losses
from genax.gan.game import NON_SATURATING, Draw, Game, Round, play
from genax.nn.conditions import Condition, unconditional

# (nets, batch, round) -> one value per element; `genax.gan.penalties` has the published ones.
Penalty = Callable[[nn.Module, Batch, Round], Float[Array, " b"]]


def discriminator_loss(
    nets: nn.Module,
    batch: Batch,
    game: Game = NON_SATURATING,
    draw: Draw = jax.random.normal,
    condition: Condition = unconditional,
    penalties: Mapping[str, Penalty] | None = None,
) -> Losses:
    """Return the game's objective of the discriminator, and a term for each penalty.

    Metrics: mean scores of real images and of fakes, and the share of each that is told right if
    the game has a threshold.

    batch["image"]: [b, h, w, c] in the generator's range.
    draw, condition: see `play`.
    penalties: by the name that their metric gets.
    """
    found = play(nets, batch, draw, condition, moves="discriminator")
    aux: dict[str, Any] = {"real_score": found.real, "fake_score": found.fake}
    if game.threshold is not None:
        aux |= {
            "real_accuracy": found.real > game.threshold,
            "fake_accuracy": found.fake < game.threshold,
        }
    loss = Loss(game.discriminator(found.real, found.fake), aux=aux)
    if not penalties:
        return loss
    return {"game": loss} | {
        name: Loss(penalty(nets, batch, found)) for name, penalty in penalties.items()
    }


def generator_loss(
    nets: nn.Module,
    batch: Batch,
    game: Game = NON_SATURATING,
    draw: Draw = jax.random.normal,
    condition: Condition = unconditional,
) -> Loss:
    """Return the game's objective of the generator.

    batch: only its index, its size and what the condition reads matter, unless the game compares
      fakes with batch["image"].
    draw, condition: see `play`.
    """
    found = play(nets, batch, draw, condition, moves="generator", scores_real=game.compares)
    return Loss(game.generator(found.real, found.fake))


def penalty_loss(
    nets: nn.Module,
    batch: Batch,
    penalty: Penalty,
    every: int = 1,
    draw: Draw = jax.random.normal,
    condition: Condition = unconditional,
) -> Loss:
    """Return a penalty as the loss of a phase of its own (lazy regularisation).

    every: of the phase. The penalty is multiplied by it, so that its mean over all steps is what it
      would be in each (Karras et al. 2020, arXiv:1912.04958, section 3.1).
    draw, condition: see `play`.
    """
    found = play(nets, batch, draw, condition, moves="discriminator")
    return Loss(every * penalty(nets, batch, found))
