"""The evidence lower bound (ELBO), for training and as a score.

Networks have an `encoder` that returns a Gaussian over latents, and a `decoder` that returns a
distribution over images. A condition, such as a label, goes to both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.nets import per_example
from genax.core.task import Batch, Loss
from genax.nn.conditions import Condition, unconditional
from genax.vae.distributions import Gaussian

# A weight, or one by the number of steps taken.
Weight = float | Callable[[Any], Any]


def per_sample(x: Array, axes: int) -> Array:
    """Sum over all but the first `axes` axes."""
    return x.sum(tuple(range(axes, x.ndim)))


def weight_at(weight: Weight, batch: Batch) -> Any:
    """Return a weight at the batch's step."""
    return weight(batch["step"]) if callable(weight) else weight


def encode(
    nets: nn.Module,
    batch: Batch,
    samples: int,
    train: bool,
    condition: Condition = unconditional,
) -> tuple[Gaussian, Float[Array, "b k z"]]:
    """Return the posterior q(z|x) and `samples` draws from it.

    The parameters of the posterior are [b, 1, z], the draws [b, samples, z].
    """
    flat = nets.encoder(batch["image"], **condition(nets, batch), train=train)
    posterior = Gaussian(flat.mean[:, None], flat.log_variance[:, None])
    shape = (samples, flat.mean.shape[-1])
    return posterior, posterior.transform(per_example(jax.random.normal, nets, batch, shape))


def log_likelihood(
    nets: nn.Module,
    batch: Batch,
    z: Float[Array, "b k z"],
    train: bool,
    condition: Condition = unconditional,
) -> Float[Array, "b k"]:
    """Return log p(x|z) of each image for each of its latents, in nats."""
    likelihood = nets.decoder(z, **condition(nets, batch), train=train)
    return per_sample(likelihood.log_prob(batch["image"][:, None]), 2)


class Terms(NamedTuple):
    """The two terms of the negative ELBO, in nats.

    reconstruction: -mean_l log p(x|z_l) of each image.
    kl: KL(q(z_j|x) || N(0, 1)) of each image and each dimension of its latent.
    """

    reconstruction: Float[Array, " b"]
    kl: Float[Array, "b z"]


def elbo_terms(
    nets: nn.Module,
    batch: Batch,
    samples: int = 1,
    train: bool = True,
    condition: Condition = unconditional,
) -> Terms:
    """Return the terms of Kingma & Welling 2014, eq. 10, the KL by the closed form of appendix B.

    They are one row an image, and may be the rows of a phase with `embed`.

    batch["image"]: [b, h, w, c], intensities in [0, 1].
    samples: number of draws z_l = mean + sigma noise_l, L of eq. 10.
    """
    posterior, z = encode(nets, batch, samples, train, condition)
    reconstruction = -log_likelihood(nets, batch, z, train, condition).mean(1)
    return Terms(reconstruction, posterior.kl_to_standard()[:, 0])


def elbo_loss(
    nets: nn.Module,
    batch: Batch,
    samples: int = 1,
    beta: Weight = 1.0,
    train: bool = True,
    condition: Condition = unconditional,
) -> Loss:
    """Loss -ELBO of each image, in nats: Kingma & Welling 2014, eq. 10, to be minimised.

    beta KL(q(z|x) || N(0, I)) - mean_l log p(x|z_l). Metrics: "reconstruction" and "kl", the two
    terms, unweighted, in nats.

    batch["image"], samples: see `elbo_terms`.
    beta: factor of the KL, or one by the step, such as a warm-up. Other values than 1 make beta-VAE
      (Higgins et al. 2017, eq. 4).
    train: whether the networks run in training mode.
    condition: further arguments of both networks.
    """
    terms = elbo_terms(nets, batch, samples, train, condition)
    kl = terms.kl.sum(-1)
    aux = {"reconstruction": terms.reconstruction, "kl": kl}
    return Loss(terms.reconstruction + weight_at(beta, batch) * kl, aux=aux)


def elbo(
    nets: nn.Module, batch: Batch, samples: int = 1, condition: Condition = unconditional
) -> Loss:
    """ELBO of each image in nats, as a score: higher is better."""
    loss = elbo_loss(nets, batch, samples, train=False, condition=condition)
    return Loss(-loss.values, aux=loss.aux)


def free_bits_loss(
    nets: nn.Module, batch: Batch, rows: Terms, free_bits: float, beta: Weight = 1.0
) -> Loss:
    """Loss -ELBO in which each dimension of the latent has some of its divergence for nothing.

    beta sum_j max(free_bits, mean over the batch of KL_j) - log p(x|z): Kingma et al. 2016
    (arXiv:1606.04934), eq. 15, with groups of one dimension. The mean is that of the global batch,
    so the terms are rows of `Phase.embed`. Metrics: see `elbo_loss`, and "free_units", the number
    of dimensions whose mean divergence is below free_bits, which have no gradient by it.

    rows: `elbo_terms` of the global batch.
    free_bits: lambda of eq. 15, in nats.
    """
    mean = rows.kl.mean(0)
    held = jnp.maximum(free_bits, mean).sum()
    aux = {
        "reconstruction": rows.reconstruction,
        "kl": rows.kl.sum(-1),
        "free_units": (mean < free_bits).sum().astype(jnp.float32),
    }
    return Loss(rows.reconstruction + weight_at(beta, batch) * held, aux=aux)
