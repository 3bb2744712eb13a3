"""Objectives of the two players, and the round that they play on a batch.

A game knows scores only: what a discriminator says of real images and of fakes, one number for each
image or for each of its patches. So any objective meets any pair of networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import relu, softplus
from jaxtyping import Array, Float

from genax.core.nets import per_example, pure
from genax.core.task import Batch
from genax.nn.conditions import Condition, unconditional

Scores = Float[Array, "b *places"]
Objective = Callable[[Scores, Scores], Scores]
Draw = Callable[..., jax.Array]
View = Callable[[Float[Array, "b ..."]], Float[Array, "b ..."]]
# (nets, batch) -> what the discriminator sees of images. It draws its random numbers once, one for
# each element, and returns a pure function. `genax.gan.augmentation` has one.
Augment = Callable[[nn.Module, Batch], View]


@dataclass(frozen=True)
class Game:
    """What both players minimise, of the scores of real images and of fakes.

    discriminator: (real, fake) -> one value per score.
    generator: (real, fake) -> one value per score.
    threshold: the score above which an image is taken for real; None if the sign of one score says
      nothing.
    compares: whether the generator's objective reads the scores of real images.
    """

    discriminator: Objective
    generator: Objective
    threshold: float | None = 0.0
    compares: bool = False


def _logistic(real: Scores, fake: Scores) -> Scores:
    return softplus(-real) + softplus(fake)


# Goodfellow et al. 2014 (arXiv:1406.2661), eq. 1: -log D(x) - log(1 - D(G(z))) against
# log(1 - D(G(z))).
MINIMAX = Game(_logistic, lambda real, fake: -softplus(fake))
# The same, section 3: the generator minimises -log D(G(z)).
NON_SATURATING = Game(_logistic, lambda real, fake: softplus(-fake))
# Mao et al. 2017 (arXiv:1611.04076), eq. 9: targets 0 and 1. CycleGAN's code leaves out the
# generator's half.
LEAST_SQUARES = Game(
    lambda real, fake: 0.5 * jnp.square(real - 1) + 0.5 * jnp.square(fake),
    lambda real, fake: 0.5 * jnp.square(fake - 1),
    threshold=0.5,
)
# Lim & Ye 2017 (arXiv:1705.02894), as in SAGAN and BigGAN.
HINGE = Game(lambda real, fake: relu(1 - real) + relu(1 + fake), lambda real, fake: -fake)
# Arjovsky et al. 2017 (arXiv:1701.07875), eq. 2: the critic has to be Lipschitz by other means.
WASSERSTEIN = Game(lambda real, fake: fake - real, lambda real, fake: -fake, threshold=None)
# Jolicoeur-Martineau 2019 (arXiv:1807.00734), eq. 10, as in R3GAN (Huang et al. 2024): each fake is
# compared with one real image.
RELATIVISTIC = Game(
    lambda real, fake: softplus(fake - real),
    lambda real, fake: softplus(real - fake),
    threshold=None,
    compares=True,
)


class Round(NamedTuple):
    """What the players see of one batch.

    real: scores of batch["image"]; None if they were not asked for.
    fake: scores of the fakes; None without fakes.
    fakes: images [b, h, w, c], or whatever the generator makes; None if they were not asked for.
    score: the discriminator as a pure function from images to scores, for penalties. Images are
      augmented in it, and a score of several images stands there once.
    """

    real: Any
    fake: Any
    fakes: Any
    score: Callable[[Float[Array, "b ..."]], Scores]


def latents(nets: nn.Module, batch: Batch, draw: Draw = jax.random.normal) -> Float[Array, "b z"]:
    """`draw(key, shape)` for each element, of the generator's latent size; new at each call."""
    return per_example(draw, nets, batch, (nets.generator.latent_size,))


def unchanged(nets: nn.Module, batch: Batch) -> View:
    """Return the view of a discriminator that sees images as they are."""
    return lambda images: images


def for_each_image(scores: Float[Array, "packs ..."], images: int) -> Float[Array, "b ..."]:
    """Return one score for each image: that of a pack stands for all of its images."""
    return scores if len(scores) == images else jnp.repeat(scores, images // len(scores), axis=0)


def play(
    nets: nn.Module,
    batch: Batch,
    draw: Draw = jax.random.normal,
    condition: Condition = unconditional,
    augment: Augment = unchanged,
    inputs: Condition = unconditional,
    *,
    moves: str,
    scores_real: bool = True,
    makes_fakes: bool = True,
) -> Round:
    """Return the round that the player called `moves` sees, both networks in training mode.

    Real images and fakes pass the discriminator in two batches, so that BatchNorm gives each its
    own statistics (Radford et al. 2015, as in PyTorch's example). While the discriminator moves, no
    gradient reaches the generator. The generator's running statistics move in either round: they
    average fakes of one and the same distribution.

    draw: of latents.
    condition: (nets, batch) -> keyword arguments of both networks.
    augment: of real images, of fakes and of what a penalty scores, each with numbers of its own.
    inputs: (nets, batch) -> keyword arguments of the generator alone, such as keys of noise.
    moves: "discriminator" or "generator".
    scores_real, makes_fakes: what of real images and of fakes is there; what is not is None.
    """
    given = condition(nets, batch)
    fakes = None
    if makes_fakes:
        more = inputs(nets, batch)
        fakes = nets.generator(latents(nets, batch, draw), **given, **more, train=True)
        fakes = lax.stop_gradient(fakes) if moves == "discriminator" else fakes

    def score(images):
        seen = augment(nets, batch)(images)
        return for_each_image(nets.discriminator(seen, **given, train=True), len(images))

    real = score(batch["image"]) if scores_real else None
    fake = None if fakes is None else score(fakes)
    if nets.is_initializing():
        # Shapes are found out with two images, which may be fewer than a score takes.
        return Round(real, fake, fakes, lambda images: jnp.zeros(len(images)))
    view, example = augment(nets, batch), batch["image"] if fakes is None else fakes
    alone = pure(nets.discriminator, view(example), **given, train=True)
    # What a penalty scores has masks of its own, the same ones at every call.
    rngs = {"dropout": nets.make_rng("dropout")} if nets.has_rng("dropout") else {}
    return Round(
        real, fake, fakes, lambda images: alone(view(images), **given, train=True, rngs=rngs)
    )
