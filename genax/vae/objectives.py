"""Bounds of the likelihood: the ELBO for training, and a tighter one for measuring.

Networks have an `encoder` that returns a Gaussian over latents, and a `decoder` that returns a
distribution over images.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from genax.core.nets import per_example
from genax.core.task import Batch, Loss
from genax.vae.distributions import Gaussian


def per_sample(x: Array, axes: int) -> Array:
    """Sum over all but the first `axes` axes."""
    return x.sum(tuple(range(axes, x.ndim)))


def encode(nets: nn.Module, batch: Batch, samples: int, train: bool):
    """Return the posterior q(z|x) and `samples` draws from it.

    The parameters of the posterior are [b, 1, z], the draws [b, samples, z].
    """
    flat = nets.encoder(batch["image"], train=train)
    posterior = Gaussian(flat.mean[:, None], flat.log_variance[:, None])
    shape = (samples, flat.mean.shape[-1])
    return posterior, posterior.transform(per_example(jax.random.normal, nets, batch, shape))


def elbo_loss(
    nets: nn.Module, batch: Batch, samples: int = 1, beta: float = 1.0, train: bool = True
) -> Loss:
    """Loss -ELBO of each image, in nats: Kingma & Welling 2014, eq. 10, to be minimised.

    beta KL(q(z|x) || N(0, I)) - mean_l log p(x|z_l), z_l = mean + sigma noise_l. The KL is the
    closed form of appendix B. Metrics: "reconstruction" and "kl", the two terms, unweighted, in
    nats.

    batch["image"]: [b, h, w, c], intensities in [0, 1].
    samples: number of draws, L of eq. 10.
    beta: factor of the KL. Other values than 1 make beta-VAE (Higgins et al. 2017, eq. 4).
    train: whether the networks run in training mode.
    """
    posterior, z = encode(nets, batch, samples, train)
    likelihood = nets.decoder(z, train=train)
    log_prob = likelihood.log_prob(batch["image"][:, None])
    reconstruction = -per_sample(log_prob, 2).mean(1)
    kl = per_sample(posterior.kl_to_standard(), 1)
    return Loss(reconstruction + beta * kl, aux={"reconstruction": reconstruction, "kl": kl})


def elbo(nets: nn.Module, batch: Batch, samples: int = 1) -> Loss:
    """ELBO of each image in nats, as a score: higher is better."""
    loss = elbo_loss(nets, batch, samples, train=False)
    return Loss(-loss.values, aux=loss.aux)


def importance_weighted_bound(nets: nn.Module, batch: Batch, samples: int = 50) -> Loss:
    """Bound log mean_i p(x, z_i) / q(z_i|x) in nats: Burda et al. 2016, eq. 8, with k = `samples`.

    It lies between the ELBO (its expectation at k = 1) and log p(x), which it approaches as k
    grows.

    batch["image"]: [b, h, w, c], intensities in [0, 1].
    """
    posterior, z = encode(nets, batch, samples, train=False)
    log_likelihood = per_sample(nets.decoder(z).log_prob(batch["image"][:, None]), 2)
    log_ratio = _standard_log_prob(z) - per_sample(posterior.log_prob(z), 2)
    log_weights = log_likelihood + log_ratio
    return Loss(jax.nn.logsumexp(log_weights, axis=1) - math.log(samples))


def _standard_log_prob(z: Float[Array, "b k z"]) -> Float[Array, "b k"]:
    return -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
