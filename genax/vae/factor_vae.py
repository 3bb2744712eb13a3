"""FactorVAE (Kim & Mnih 2018): a discriminator tells latents from those of shuffled dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from genax.core.task import Batch, Loss
from genax.nn.conditions import Condition, unconditional
from genax.vae.objectives import Weight, encode, log_likelihood, weight_at

# Outputs of the discriminator: a latent as it is, and one of shuffled dimensions.
JOINT, SHUFFLED = 0, 1


class FactorNetworks(nn.Module):
    """Networks of FactorVAE.

    encoder: q(z|x).
    decoder: p(x|z).
    discriminator: two logits of a latent.
    """

    encoder: nn.Module
    decoder: nn.Module
    discriminator: nn.Module


class LatentDiscriminator(nn.Module):
    """Fully connected layers with leaky ReLU of slope 0.2, then two logits.

    hidden: sizes of the layers; in the paper, appendix A, six of 1,000.
    """

    hidden: Sequence[int] = (1000,) * 6
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, z: Float[Array, "b z"], train: bool = False) -> Float[Array, "b 2"]:
        """Return the logits of `JOINT` and `SHUFFLED`, float32."""
        for layer, size in enumerate(self.hidden):
            dense = nn.Dense(size, dtype=self.dtype, name=f"hidden_{layer}")
            z = nn.leaky_relu(dense(z), 0.2)
        return nn.Dense(2, dtype=self.dtype, name="logits")(z).astype(jnp.float32)


class Draws(NamedTuple):
    """Two latents of each image, drawn from its posterior one after the other.

    latent: is told from shuffled ones.
    other: is shuffled.
    """

    latent: Float[Array, "b z"]
    other: Float[Array, "b z"]


def factor_loss(
    nets: nn.Module,
    batch: Batch,
    gamma: Weight = 35.0,
    train: bool = True,
    condition: Condition = unconditional,
) -> Loss:
    """Loss -ELBO + gamma (D_joint(z) - D_shuffled(z)): Kim & Mnih 2018, eq. 2 and 3.

    arXiv:1802.05983. The difference of the discriminator's logits estimates the total correlation
    log q(z) - sum_j log q(z_j). Metrics: "reconstruction", "kl" and "total_correlation", in nats.

    batch["image"]: [b, h, w, c], intensities in [0, 1].
    gamma: weight of the total correlation, or one by the step.
    """
    posterior, z = encode(nets, batch, 1, train, condition)
    reconstruction = -log_likelihood(nets, batch, z, train, condition)[:, 0]
    kl = posterior.kl_to_standard().sum((1, 2))
    logits = nets.discriminator(z[:, 0], train=train)
    correlation = logits[:, JOINT] - logits[:, SHUFFLED]
    aux = {"reconstruction": reconstruction, "kl": kl, "total_correlation": correlation}
    return Loss(reconstruction + kl + weight_at(gamma, batch) * correlation, aux=aux)


def latent_draws(
    nets: nn.Module, batch: Batch, train: bool = True, condition: Condition = unconditional
) -> Draws:
    """Return the rows of `Phase.embed` that `discriminator_loss` shuffles; no gradient leads back.

    The paper takes the latents that are shuffled from a second batch. Here they are other draws of
    the same images: the mean of the loss is the same.
    """
    _, z = encode(nets, batch, 2, train, condition)
    return Draws(*lax.stop_gradient((z[:, 0], z[:, 1])))


def discriminator_loss(nets: nn.Module, batch: Batch, rows: Draws, train: bool = True) -> Loss:
    """Half the sum of the cross-entropies of latents as they are and of shuffled ones.

    Kim & Mnih 2018, algorithm 2. Each dimension is shuffled over the global batch, so the latents
    are rows of `Phase.embed`. Metrics: the share of either kind that is told right.

    rows: `latent_draws` of the global batch.
    """
    shuffled = shuffle_dimensions(nets.make_rng("example"), rows.other)
    both = nets.discriminator(jnp.concatenate([rows.latent, shuffled]), train=train)
    logs = jax.nn.log_softmax(both).reshape(2, len(rows.latent), 2)
    aux = {
        "joint_accuracy": logs[0, :, JOINT] > logs[0, :, SHUFFLED],
        "shuffled_accuracy": logs[1, :, SHUFFLED] > logs[1, :, JOINT],
    }
    return Loss(-0.5 * (logs[0, :, JOINT] + logs[1, :, SHUFFLED]), aux=aux)


def shuffle_dimensions(key: Key[Array, ""], z: Float[Array, "b z"]) -> Float[Array, "b z"]:
    """Permute each dimension of a batch of latents by itself: Kim & Mnih 2018, algorithm 1."""
    order = jnp.argsort(jax.random.uniform(key, z.shape), axis=0)
    return jnp.take_along_axis(z, order, axis=0)
