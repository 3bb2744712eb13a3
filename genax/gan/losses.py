"""The non-saturating game (Goodfellow et al. 2014), and the scores that any GAN loss is made of.

Another game is two functions more, of the same scores: hinge, for one, has
relu(1 - real) + relu(1 + fake) for the discriminator and -fake for the generator.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
from jax import lax
from jaxtyping import Array, Float

from genax.core.nets import per_example
from genax.core.task import Batch, Loss

Draw = Callable[..., jax.Array]


def latents(nets: nn.Module, batch: Batch, draw: Draw = jax.random.normal) -> Float[Array, "b z"]:
    """`draw(key, shape)` for each element, of the generator's latent size; new at each call."""
    return per_example(draw, nets, batch, (nets.generator.latent_size,))


def score_real_and_fake(
    nets: nn.Module, batch: Batch, draw: Draw = jax.random.normal
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """What the discriminator's phase sees: logits of batch["image"] and of as many fakes.

    Real and fake pass in two batches, so that BatchNorm gives each its own statistics (Radford et
    al. 2015, as in PyTorch's example). No gradient reaches the generator. It runs in training mode
    nevertheless, for the fakes to be those that it will be trained on, so its running statistics
    move here too: they average two batches a step of one and the same distribution.
    """
    fakes = lax.stop_gradient(nets.generator(latents(nets, batch, draw), train=True))
    real = nets.discriminator(batch["image"], train=True)
    return real, nets.discriminator(fakes, train=True)


def score_fake(nets: nn.Module, batch: Batch, draw: Draw = jax.random.normal) -> Float[Array, " b"]:
    """What the generator's phase sees: logits of as many new fakes as the batch has elements."""
    return nets.discriminator(nets.generator(latents(nets, batch, draw), train=True), train=True)


def discriminator_loss(nets: nn.Module, batch: Batch, draw: Draw = jax.random.normal) -> Loss:
    """-log D(x) - log(1 - D(G(z))): Goodfellow et al. 2014, eq. 1, to be minimised, in nats.

    batch["image"]: [b, h, w, c] in [-1, 1]. Metrics: the share of real and of fake images that
    the discriminator tells right.
    """
    real, fake = score_real_and_fake(nets, batch, draw)
    values = jax.nn.softplus(-real) + jax.nn.softplus(fake)
    return Loss(values, aux={"real_accuracy": real > 0, "fake_accuracy": fake < 0})


def generator_loss(nets: nn.Module, batch: Batch, draw: Draw = jax.random.normal) -> Loss:
    """-log D(G(z)), the non-saturating form of section 3 of Goodfellow et al. 2014, in nats.

    batch: only its index and its size matter.
    """
    return Loss(jax.nn.softplus(-score_fake(nets, batch, draw)))
