"""Bounds of the likelihood by several samples with importance weights (Burda et al. 2016)."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from genax.core.nets import example_keys, pure
from genax.core.task import Batch, Loss
from genax.nn.conditions import Condition, unconditional
from genax.vae.distributions import Gaussian
from genax.vae.objectives import encode, log_likelihood, per_sample


def log_ratio(posterior: Gaussian, z: Float[Array, "b k z"]) -> Float[Array, "b k"]:
    """Return log p(z) - log q(z|x) of draws, in nats.

    posterior: its parameters are [b, 1, z].
    """
    standard = -0.5 * (jnp.square(z) + math.log(2 * math.pi))
    return (standard - posterior.log_prob(z)).sum(-1)


def iwae_loss(
    nets: nn.Module,
    batch: Batch,
    samples: int = 5,
    doubly_reparameterised: bool = False,
    train: bool = True,
    condition: Condition = unconditional,
) -> Loss:
    """Loss -log mean_i w_i of each image with w_i = p(x, z_i) / q(z_i|x), in nats.

    Burda et al. 2016 (arXiv:1509.00519), eq. 8, to be minimised. Metrics: "negative_elbo", the loss
    of the same draws with one of them at a time, and "counting", how many of the draws the weights
    count for, 1 / sum of the squares of their shares.

    The encoder's gradient gets noisier with more samples. With `doubly_reparameterised` it is that
    of Tucker et al. 2019 (arXiv:1810.04152), eq. 8: sum_i s_i^2 (d log w_i / d z_i) (d z_i / d
    phi) with the shares s = softmax(log w), whose mean is the same. The value and the decoder's
    gradient are those of the plain loss. The shares have to be known before the gradient of a
    latent is, so the decoder runs forward twice.

    batch["image"]: [b, h, w, c], intensities in [0, 1].
    samples: k of eq. 8; 1 is the ELBO with the sampled divergence.
    condition: further arguments of both networks.
    """
    posterior, z = encode(nets, batch, samples, train, condition)
    if doubly_reparameterised:
        held = lax.stop_gradient(z)
        fixed = lax.stop_gradient(posterior)
        log_weights = log_likelihood(nets, batch, held, train, condition) + log_ratio(fixed, held)
        shares = lax.stop_gradient(jax.nn.softmax(log_weights, axis=1))
        # The same numbers, whose gradient is multiplied by the shares once more.
        z, posterior = held + shares[..., None] * (z - held), fixed
    log_weights = log_likelihood(nets, batch, z, train, condition) + log_ratio(posterior, z)
    shares = jax.nn.softmax(log_weights, axis=1)
    aux = {
        "negative_elbo": -log_weights.mean(1),
        "counting": 1.0 / jnp.square(shares).sum(1),
    }
    return Loss(math.log(samples) - jax.nn.logsumexp(log_weights, axis=1), aux=aux)


def importance_weighted_bound(
    nets: nn.Module,
    batch: Batch,
    samples: int = 50,
    chunk: int = 50,
    condition: Condition = unconditional,
) -> Loss:
    """Bound log mean_i p(x, z_i) / q(z_i|x) in nats: Burda et al. 2016, eq. 8, with k = `samples`.

    It lies between the ELBO (its expectation at k = 1) and log p(x), which it approaches as k
    grows. Metric: "bits_per_dim", the same in bits of a pixel's channel, lower is better.

    batch["image"]: [b, h, w, c], intensities in [0, 1].
    chunk: how many samples of each image are decoded at a time. Memory grows with it and not with
      `samples`; what is drawn does not depend on it.
    condition: further arguments of both networks.
    """
    given = condition(nets, batch)
    flat = nets.encoder(batch["image"], **given)
    posterior = Gaussian(flat.mean[:, None], flat.log_variance[:, None])
    keys, size = example_keys(nets, batch), min(chunk, samples)
    decode = pure(nets.decoder, posterior.mean, **given)

    def add(total: Float[Array, " b"], first: Any) -> tuple[Float[Array, " b"], None]:
        places = first + jnp.arange(size)
        z = posterior.transform(numbered_noise(keys, places, flat.mean.shape[-1]))
        log_likelihoods = per_sample(decode(z, **given).log_prob(batch["image"][:, None]), 2)
        log_weights = log_likelihoods + log_ratio(posterior, z)
        # The last chunk may reach beyond the samples.
        log_weights = jnp.where(places < samples, log_weights, -jnp.inf)
        return jnp.logaddexp(total, jax.nn.logsumexp(log_weights, axis=1)), None

    start = jnp.full(len(flat.mean), -jnp.inf)
    total, _ = lax.scan(add, start, jnp.arange(0, samples, size))
    values = total - math.log(samples)
    pixels = math.prod(batch["image"].shape[1:])
    return Loss(values, aux={"bits_per_dim": -values / (pixels * math.log(2))})


def numbered_noise(
    keys: Key[Array, " b"], numbers: Int[Array, " k"], size: int
) -> Float[Array, "b k z"]:
    """Return standard normal noise of each element's samples, each by its number."""

    def of_one(key, number):
        return jax.random.normal(jax.random.fold_in(key, number), (size,))

    return jax.vmap(jax.vmap(of_one, (None, 0)), (0, None))(keys, numbers)
