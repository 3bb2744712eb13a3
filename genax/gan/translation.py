"""Translations of images: generators that get an image in place of a latent.

What is read is the "source", and what should be made of it is the "image" of the batch. The source
is the batch's own, or a worse copy of the image: grey, or smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.core.task import Batch, Loss
from genax.gan.game import Game, Round

Images = Float[Array, "b h w c"]
# batch -> the images that are translated.
Source = Callable[[Batch], Images]

# ITU-R BT.601, as in most code that turns colours into grey.
LUMINANCE = (0.299, 0.587, 0.114)


def weighted(game: Game, discriminator: float = 1.0, generator: float = 1.0) -> Game:
    """Return the game with the objective of each player times a weight."""
    return replace(
        game,
        discriminator=lambda real, fake: discriminator * game.discriminator(real, fake),
        generator=lambda real, fake: generator * game.generator(real, fake),
    )


def own_source(batch: Batch) -> Images:
    """Return batch["source"]."""
    return jnp.asarray(batch["source"])


def grey(batch: Batch) -> Float[Array, "b h w 1"]:
    """Return batch["image"], of three channels, as grey images. Raises GenaxError for others."""
    image = jnp.asarray(batch["image"])
    if image.shape[-1] != 3:
        raise GenaxError(
            f"images of {image.shape[-1]} channels have no colours to take away; choose a data set "
            "of RGB images."
        )
    return (image * jnp.array(LUMINANCE)).sum(-1, keepdims=True)


def smaller(batch: Batch, factor: int) -> Images:
    """Return batch["image"] made smaller: a pixel is the mean of factor x factor pixels.

    Raises GenaxError for sides that the factor does not divide.
    """
    image = jnp.asarray(batch["image"])
    b, h, w, c = image.shape
    if h % factor or w % factor:
        raise GenaxError(
            f"images of {h}x{w} cannot be made {factor} times smaller; choose a factor that "
            "divides both sides."
        )
    return image.reshape(b, h // factor, factor, w // factor, factor, c).mean((2, 4))


def enlarged(batch: Batch, source: Source) -> Images:
    """Return the source in the shape of batch["image"]: what it costs nothing to make of it.

    A smaller source is enlarged by bicubic interpolation (Keys 1981, a = -0.5), and a grey one gets
    three equal channels.
    """
    small, (b, h, w, c) = source(batch), batch["image"].shape
    large = jax.image.resize(small, (b, h, w, small.shape[-1]), "cubic")
    return jnp.broadcast_to(large, (b, h, w, c))


class Translator(nn.Module):
    """A network from images to images as the generator of a game.

    It has no latents: what is random in it, such as dropout, is the network's own.
    """

    network: nn.Module
    latent_size: int = 0

    @nn.compact
    def __call__(
        self, z: Float[Array, "b 0"], source: Images, train: bool = False
    ) -> Float[Array, "b H W d"]:
        """Return the translation of the source."""
        return self.network(source, train)


def with_source(nets: nn.Module, batch: Batch, source: Source) -> dict[str, Any]:
    """Condition of both networks: the source. A `Condition` once `source` is given."""
    return {"source": source(batch)}


def distance(
    nets: nn.Module, batch: Batch, found: Round, weight: float = 100.0, power: int = 1
) -> Images:
    """weight |G(source) - image|^power of each pixel: a penalty of the generator.

    Isola et al. 2017, eq. 3, has power 1. Ledig et al. 2017, eq. 4, has power 2.
    """
    return weight * jnp.abs(found.fakes - batch["image"]) ** power


def distance_loss(
    nets: nn.Module, batch: Batch, source: Source, weight: float = 100.0, power: int = 1
) -> Loss:
    """Return `distance` as the loss of a generator without an opponent."""
    images = translate(nets, batch, source, train=True)
    return Loss(weight * jnp.abs(images - batch["image"]) ** power)


def translate(nets: nn.Module, batch: Batch, source: Source, train: bool = False) -> Images:
    """Return the translation of each source.

    train: whether the generator works as in training, with dropout and the batch's statistics, as
      Pix2Pix's does in samples (section 3.4).
    """
    images = source(batch)
    return nets.generator(jnp.zeros((len(images), 0)), source=images, train=train)
