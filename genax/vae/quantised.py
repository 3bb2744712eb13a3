"""Objective, scores and pictures of an autoencoder with a codebook, `nets.autoencoder`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from genax.core.task import Batch, Evaluator, Loss
from genax.vae.codebook import usage_of
from genax.vae.objectives import per_sample


def vq_loss(
    nets: nn.Module,
    batch: Batch,
    commitment: float = 0.25,
    codebook: float = 1.0,
    train: bool = True,
) -> Loss:
    """Loss of each image in nats: van den Oord et al. 2017 (arXiv:1711.00937), eq. 3.

    -log p(x|z_q(x)) + |sg[z_e(x)] - e|^2 + beta |z_e(x) - sg[e]|^2, summed over pixels, and over
    all codes of an image and their dimensions. The gradient of the first term passes straight
    through the codebook to the encoder. The second moves codes that are parameters; codes that are
    averages have no gradient, and it is left out. Metrics: "reconstruction", the first term,
    "distance", |z_e - e|^2, and the usage of the codebook, see `Codebook.usage`.

    batch["image"]: [b, h, w, c], intensities in [0, 1].
    commitment: beta.
    codebook: factor of the second term.
    train: whether the networks run in training mode, and the codebook follows the batch.
    """
    autoencoder, image = nets.autoencoder, batch["image"]
    found = autoencoder.codebook(autoencoder.vectors(image, train), train)
    likelihood = autoencoder.likelihood_at(found.straight, train)
    reconstruction = -per_sample(likelihood.log_prob(image), 1)
    committed = _distance(found.vectors, lax.stop_gradient(found.nearest))
    values = reconstruction + commitment * committed
    if not autoencoder.codebook.averages:
        values += codebook * _distance(lax.stop_gradient(found.vectors), found.nearest)
    usage = autoencoder.codebook.usage()
    if train:
        autoencoder.codebook.follow(found, batch)
    return Loss(values, aux={"reconstruction": reconstruction, "distance": committed, **usage})


def _distance(vectors: Float[Array, "b *n d"], codes: Float[Array, "b *n d"]) -> Float[Array, " b"]:
    return per_sample(jnp.square(vectors - codes), 1)


def uniform_elbo(nets: nn.Module, batch: Batch) -> Loss:
    """Return a lower bound of log p(x) in nats, if all codes are equally likely: higher is better.

    log p(x|z) - n log K for the n codes z of an image, one term of the sum over all codes that
    log p(x) is. Metrics: "reconstruction", -log p(x|z) in nats, and "bits_per_dim", the bound in
    bits per dimension.
    """
    autoencoder, image = nets.autoencoder, batch["image"]
    index = autoencoder.encode(image)
    reconstruction = -per_sample(autoencoder.decode(index).log_prob(image), 1)
    codes = math.prod(index.shape[1:]) * math.log(autoencoder.codebook.num_codes)
    return bound_of(image, reconstruction=reconstruction, codes=codes)


def bound_of(image: Float[Array, "b h w c"], reconstruction: Any, codes: Any) -> Loss:
    """Return the bound -(nats of the codes + nats of the image given these), with its parts."""
    nats = reconstruction + codes
    bits = nats / (math.prod(image.shape[1:]) * math.log(2))
    parts = {"reconstruction": reconstruction, "codes": jnp.broadcast_to(codes, nats.shape)}
    return Loss(-nats, aux={**parts, "bits_per_dim": bits})


def code_usage(num_codes: int) -> Evaluator:
    """Scores of how codes are used over all evaluation data: "perplexity" and "used_codes"."""

    def numbers(nets: nn.Module, batch: Batch) -> Array:
        return nets.autoencoder.encode(batch["image"])

    def summarize(rows: Any, workdir: Any) -> Mapping[str, float]:
        found = usage_of(jnp.asarray(np.bincount(rows.ravel(), minlength=num_codes), jnp.float32))
        return {name: float(value) for name, value in found.items()}

    return Evaluator(numbers, summarize)


def reconstruct_images(nets: nn.Module, batch: Batch) -> Float[Array, "b h w2 c"]:
    """Return images, and to their right E[x|z] at their codes, both in [-1, 1].

    batch["image"]: [b, h, w, c] in [0, 1].
    """
    image = batch["image"]
    return 2 * jnp.concatenate([image, nets.autoencoder(image).mean], axis=2) - 1
