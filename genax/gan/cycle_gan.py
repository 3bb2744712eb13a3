"""The game of CycleGAN (Zhu et al. 2017, arXiv:1703.10593): two translations and their opponents.

The generators move first, by the discriminators before the step. The discriminators judge the fakes
of the generators before the step, so that the phases of both belong in a stage with `together`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.core.nets import pure
from genax.core.task import Batch, Loss
from genax.data.within import check_range
from genax.evaluation.pictures import CHANNELS
from genax.gan.game import LEAST_SQUARES, Game, Round
from genax.gan.image_pool import pooled
from genax.gan.losses import Penalty

Images = Float[Array, "b h w c"]

# The discriminators minimise half the squares, the generators whole ones, as in the official code.
CYCLE_GAME = replace(LEAST_SQUARES, generator=lambda real, fake: jnp.square(fake - 1))


class CycleNetworks(nn.Module):
    """The networks of two domains a and b.

    to_a, to_b: images of the other domain -> images of this one.
    discriminator_a, discriminator_b: images -> logits of being of this domain.
    """

    to_a: nn.Module
    to_b: nn.Module
    discriminator_a: nn.Module
    discriminator_b: nn.Module


def check_domains(data: Any, identity_weight: float = 0.0) -> dict[str, int]:
    """Return the channels of both domains' images, by domain.

    Raises GenaxError for images outside [-1, 1], that no translation keeps the size of, that no
    picture can be made of, or that a generator cannot leave as they are although
    `identity_weight` asks for it.
    """
    if missing := sorted({"a_image", "b_image"} - set(data.element)):
        raise GenaxError(
            f"the data of two domains lacks {missing[0]!r}; join them, as Joined(a=..., b=...) of "
            "genax.data does."
        )
    check_range(data)
    shapes = {name: data.element[f"{name}_image"].shape for name in ("a", "b")}
    (*a, in_a), (*b, in_b) = shapes.values()
    if a != b or {in_a, in_b} - {*CHANNELS}:
        raise GenaxError(
            f"images of domain a have the shape {shapes['a']}, those of domain b {shapes['b']}; a "
            "translation keeps the sides, and a picture has 1 or 3 channels: choose one size for "
            "both."
        )
    if identity_weight and in_a != in_b:
        raise GenaxError(
            f"images of {in_a} and of {in_b} channels have no identity between them; choose "
            "config.identity_weight=0, or domains of as many channels as each other."
        )
    return {"a": in_a, "b": in_b}


def cycle_generator_loss(
    nets: nn.Module,
    batch: Batch,
    game: Game = CYCLE_GAME,
    cycle_weight: float = 10.0,
    identity_weight: float = 5.0,
) -> Mapping[str, Loss]:
    """Return the generators' objectives, eq. 1 to 3 and section 5.2 of the paper, as terms.

    "game_b": the game's objective of to_b(a). "cycle_a": cycle_weight |to_a(to_b(a)) - a|, the mean
    over pixels. "identity_b": identity_weight |to_b(b) - b|. And so for the other domain.

    batch["a_image"], batch["b_image"]: [b, h, w, c] in [-1, 1].
    identity_weight: 0 leaves the term out.
    """
    a, b, fake_a, fake_b = _fakes(nets, batch)
    terms = {
        "game_a": Loss(_fooled(game, nets.discriminator_a, a, fake_a)),
        "game_b": Loss(_fooled(game, nets.discriminator_b, b, fake_b)),
        "cycle_a": _distance(cycle_weight, nets.to_a(fake_b, train=True), a),
        "cycle_b": _distance(cycle_weight, nets.to_b(fake_a, train=True), b),
    }
    if identity_weight:
        terms["identity_a"] = _distance(identity_weight, nets.to_a(a, train=True), a)
        terms["identity_b"] = _distance(identity_weight, nets.to_b(b, train=True), b)
    return terms


def cycle_discriminator_loss(
    nets: nn.Module,
    batch: Batch,
    game: Game = CYCLE_GAME,
    pool_size: int = 50,
    penalties: Mapping[str, Penalty] | None = None,
) -> Mapping[str, Loss]:
    """Return the discriminators' objectives, a term for each domain, and their penalties.

    Each discriminator sees new fakes among earlier ones of a pool.

    batch: see `cycle_generator_loss`.
    pool_size: see `pooled`.
    penalties: by the name that their metric gets, once for each domain.
    """
    a, b, fake_a, fake_b = _fakes(nets, batch)
    judges = {"a": (nets.discriminator_a, a, fake_a), "b": (nets.discriminator_b, b, fake_b)}
    terms = {}
    for name, (discriminator, real, fakes) in judges.items():
        fakes = pooled(nets, batch, f"fakes_{name}", lax.stop_gradient(fakes), pool_size)
        found = _judged(discriminator, real, fakes)
        aux = {"real_score": found.real, "fake_score": found.fake}
        terms[f"game_{name}"] = Loss(game.discriminator(found.real, found.fake), aux=aux)
        for title, penalty in (penalties or {}).items():
            values = penalty(nets, {**batch, "image": real}, found)
            terms[f"{title}_{name}"] = Loss(values)
    return terms


def _fakes(nets: nn.Module, batch: Batch) -> tuple[Images, Images, Images, Images]:
    """Return the images of both domains, and the translations to domain a and to domain b."""
    a, b = batch["a_image"], batch["b_image"]
    return a, b, nets.to_a(b, train=True), nets.to_b(a, train=True)


def _fooled(game: Game, discriminator: nn.Module, real: Images, fakes: Images) -> Array:
    scores: Any = discriminator(real, train=True) if game.compares else None
    return game.generator(scores, discriminator(fakes, train=True))


def _distance(weight: float, found: Images, wanted: Images) -> Loss:
    return Loss(weight * jnp.abs(found - wanted))


def _judged(discriminator: nn.Module, real: Images, fakes: Images) -> Round:
    real_score, fake_score = (discriminator(images, train=True) for images in (real, fakes))
    alone = pure(discriminator, fakes, train=True)
    return Round(real_score, fake_score, fakes, lambda images: alone(images, train=True))


def to_b(nets: nn.Module, batch: Batch) -> Images:
    """Return batch["a_image"] as images of domain b."""
    return nets.to_b(batch["a_image"])


def to_a(nets: nn.Module, batch: Batch) -> Images:
    """Return batch["b_image"] as images of domain a."""
    return nets.to_a(batch["b_image"])
