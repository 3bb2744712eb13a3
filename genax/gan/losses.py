"""The non-saturating game (Goodfellow et al. 2014), and the scores for losses of any GAN.

Another game is two more functions of the same scores. Hinge, for example, has relu(1 - real) +
relu(1 + fake) for the discriminator and -fake for the generator.
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
    """Draw a latent of the generator's size for each element, new at each call.

    draw: (key, shape) -> a latent.
    """
    return per_example(draw, nets, batch, (nets.generator.latent_size,))


def score_real_and_fake(
    nets: nn.Module, batch: Batch, draw: Draw = jax.random.normal
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """Return the discriminator's logits of batch["image"] and of as many fakes, for its own phase.

    Real and fake pass in two batches, so that BatchNorm gives each its own statistics (Radford et
    al. 2015, as in PyTorch's example). No gradient reaches the generator. It still runs in training
    mode, so that the fakes are those that it will be trained on. Its running statistics therefore
    move here too: they average two batches of the same distribution per step.
    """
    fakes = lax.stop_gradient(nets.generator(latents(nets, batch, draw), train=True))
    real = nets.discriminator(batch["image"], train=True)
    return real, nets.discriminator(fakes, train=True)


def score_fake(nets: nn.Module, batch: Batch, draw: Draw = jax.random.normal) -> Float[Array, " b"]:
    """Return the discriminator's logits of as many new fakes as the batch has elements.

    The generator's phase reads them.
    """
    return nets.discriminator(nets.generator(latents(nets, batch, draw), train=True), train=True)


def discriminator_loss(nets: nn.Module, batch: Batch, draw: Draw = jax.random.normal) -> Loss:
    """Loss -log D(x) - log(1 - D(G(z))): Goodfellow et al. 2014, eq. 1, to be minimised, in nats.

    Metrics: the share of real and of fake images that the discriminator classifies right.

    batch["image"]: [b, h, w, c] in [-1, 1].
    """
    real, fake = score_real_and_fake(nets, batch, draw)
    values = jax.nn.softplus(-real) + jax.nn.softplus(fake)
    return Loss(values, aux={"real_accuracy": real > 0, "fake_accuracy": fake < 0})


def generator_loss(nets: nn.Module, batch: Batch, draw: Draw = jax.random.normal) -> Loss:
    """Loss -log D(G(z)), the non-saturating form of Goodfellow et al. 2014, section 3, in nats.

    batch: a batch of which only the index and the size matter.
    """
    return Loss(jax.nn.softplus(-score_fake(nets, batch, draw)))
