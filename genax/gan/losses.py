"""Losses of the discriminator and of the generator, for any game and penalties."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.task import Batch, Loss, Losses
from genax.gan.game import NON_SATURATING, Augment, Draw, Game, Round, play, unchanged
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
    augment: Augment = unchanged,
    inputs: Condition = unconditional,
) -> Losses:
    """Return the game's objective of the discriminator, and a term for each penalty.

    Metrics: mean scores of real images and of fakes, and the share of each that is told right if
    the game has a threshold.

    batch["image"]: [b, h, w, c] in the generator's range.
    draw, condition, augment, inputs: see `play`.
    penalties: by the name that their metric gets.
    """
    found = play(nets, batch, draw, condition, augment, inputs, moves="discriminator")
    aux: dict[str, Any] = {"real_score": found.real, "fake_score": found.fake}
    if game.threshold is not None:
        aux |= {
            "real_accuracy": found.real > game.threshold,
            "fake_accuracy": found.fake < game.threshold,
        }
    loss = Loss(game.discriminator(found.real, found.fake), aux=aux)
    return _with(penalties, loss, nets, batch, found)


def generator_loss(
    nets: nn.Module,
    batch: Batch,
    game: Game = NON_SATURATING,
    draw: Draw = jax.random.normal,
    condition: Condition = unconditional,
    penalties: Mapping[str, Penalty] | None = None,
    augment: Augment = unchanged,
    inputs: Condition = unconditional,
) -> Losses:
    """Return the game's objective of the generator, and a term for each penalty.

    batch: only its index, its size and what the condition and the penalties read matter, unless the
      game compares fakes with batch["image"].
    draw, condition, augment, inputs: see `play`.
    penalties: by the name that their metric gets.
    """
    found = play(
        nets,
        batch,
        draw,
        condition,
        augment,
        inputs,
        moves="generator",
        scores_real=game.compares,
    )
    loss = Loss(game.generator(found.real, found.fake))
    return _with(penalties, loss, nets, batch, found)


def _with(
    penalties: Mapping[str, Penalty] | None, loss: Loss, nets: nn.Module, batch: Batch, found: Round
) -> Losses:
    if not penalties:
        return loss
    terms = {name: Loss(penalty(nets, batch, found)) for name, penalty in penalties.items()}
    return {"game": loss, **terms}


def penalty_loss(
    nets: nn.Module,
    batch: Batch,
    penalty: Penalty,
    every: int = 1,
    draw: Draw = jax.random.normal,
    condition: Condition = unconditional,
    augment: Augment = unchanged,
    inputs: Condition = unconditional,
    of_score: bool = False,
) -> Loss:
    """Return a penalty as the loss of a phase of its own (lazy regularisation).

    every: of the phase. The penalty is multiplied by it, so that its mean over all steps is what it
      would be in each (Karras et al. 2020, arXiv:1912.04958, section 3.1).
    draw, condition, augment, inputs: see `play`.
    of_score: whether the penalty reads `Round.score` alone, as R1 does. Then no fakes are made.
    """
    found = play(
        nets,
        batch,
        draw,
        condition,
        augment,
        inputs,
        moves="discriminator",
        scores_real=not of_score,
        makes_fakes=not of_score,
    )
    return Loss(every * penalty(nets, batch, found))


def with_more_fakes(nets: nn.Module, batch: Batch, loss: Callable[..., Losses], fakes: int) -> Any:
    """Return a loss of several fakes for each element of the batch, such as WGAN-GP's of two.

    loss: (nets, batch) -> the losses of a batch that is as many times as large. Each element stands
      in it `fakes` times under numbers of its own, so that each draws a latent of its own.
    """
    size = len(batch["index"])
    index = batch["index"][:, None] * fakes + jnp.arange(fakes)
    larger = {
        name: jnp.repeat(array, fakes, axis=0) if jnp.ndim(array) else array
        for name, array in batch.items()
    }
    found = loss(nets, {**larger, "index": index.reshape(-1)})

    def of_elements(one: Loss) -> Loss:
        return Loss(one.values.reshape(size, fakes, *one.values.shape[1:]), aux=one.aux)

    if isinstance(found, Loss):
        return of_elements(found)
    return {name: of_elements(one) for name, one in found.items()}
