"""Beta-TCVAE (Chen et al. 2018): the divergence from the prior in three parts."""

from __future__ import annotations

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.core.task import Batch, Loss
from genax.nn.conditions import Condition, unconditional
from genax.vae.distributions import Gaussian
from genax.vae.objectives import Weight, encode, log_likelihood, weight_at


class Rows(NamedTuple):
    """What a batch's elements are compared by.

    reconstruction: -log p(x|z) of each image, in nats.
    latent: a draw from each posterior.
    mean, log_variance: of each posterior.
    """

    reconstruction: Float[Array, " b"]
    latent: Float[Array, "b z"]
    mean: Float[Array, "b z"]
    log_variance: Float[Array, "b z"]


class Parts(NamedTuple):
    """The divergence KL(q(z|x) || p(z)) of each element in parts, in nats: Chen et al. 2018, eq. 2.

    mutual_information: log q(z|x) - log q(z).
    total_correlation: log q(z) - sum_j log q(z_j).
    dimension_wise: sum_j log q(z_j) - log p(z_j).
    """

    mutual_information: Float[Array, " b"]
    total_correlation: Float[Array, " b"]
    dimension_wise: Float[Array, " b"]


def tc_rows(
    nets: nn.Module, batch: Batch, train: bool = True, condition: Condition = unconditional
) -> Rows:
    """Return the rows of `Phase.embed` that `beta_tc_loss` compares.

    batch["image"]: [b, h, w, c], intensities in [0, 1].
    """
    posterior, z = encode(nets, batch, 1, train, condition)
    reconstruction = -log_likelihood(nets, batch, z, train, condition)[:, 0]
    return Rows(reconstruction, z[:, 0], posterior.mean[:, 0], posterior.log_variance[:, 0])


def beta_tc_loss(
    nets: nn.Module,
    batch: Batch,
    rows: Rows,
    dataset_size: int,
    beta: Weight = 6.0,
    alpha: float = 1.0,
    gamma: float = 1.0,
    stratified: bool = False,
) -> Loss:
    """Loss -log p(x|z) + alpha MI + beta TC + gamma KL by dimension: Chen et al. 2018, eq. 4.

    arXiv:1802.04942. The three parts are estimated from the global batch, so the loss is one of
    `Phase.embed`. Metrics: "reconstruction" and the parts, unweighted, in nats.

    rows: `tc_rows` of the global batch.
    dataset_size: examples of the training data.
    stratified: whether log q is estimated by minibatch stratified sampling (appendix C.2) or by
      minibatch weighted sampling (eq. 5).
    """
    weights = sampling_weights(len(rows.latent), dataset_size, stratified)
    parts = divergence_parts(rows, weights)
    values = rows.reconstruction + alpha * parts.mutual_information
    values += weight_at(beta, batch) * parts.total_correlation + gamma * parts.dimension_wise
    return Loss(values, aux={"reconstruction": rows.reconstruction, **parts._asdict()})


def divergence_parts(rows: Rows, log_weights: Float[Array, "b b"]) -> Parts:
    """Return the three parts of each element's divergence.

    log_weights: of the posterior of example j in the density of element i's latent.
    """
    posterior = Gaussian(rows.mean, rows.log_variance)
    # [i, j, z]: the density of element i's latent under the posterior of example j.
    others = Gaussian(rows.mean[None], rows.log_variance[None]).log_prob(rows.latent[:, None])
    of_all = jax.nn.logsumexp(log_weights + others.sum(-1), axis=1)
    of_each = jax.nn.logsumexp(log_weights[..., None] + others, axis=1).sum(-1)
    prior = -0.5 * (jnp.square(rows.latent) + math.log(2 * math.pi)).sum(-1)
    return Parts(
        posterior.log_prob(rows.latent).sum(-1) - of_all, of_all - of_each, of_each - prior
    )


def sampling_weights(size: int, dataset_size: int, stratified: bool) -> Float[Array, "b b"]:
    """Return the logarithms of the weights of examples j in the aggregate posterior at latent i.

    Weighted sampling: 1 / (size dataset_size) for all, eq. 5, which add up to 1 / dataset_size. The
    parts have constant offsets of log dataset_size a dimension.

    Stratified sampling, with m = size - 1: 1 / dataset_size for the example itself, (dataset_size -
    m) / (dataset_size m) for one other and 1 / m for the rest, appendix C.2. They add up to 1. The
    official code means the same, but gives the first two columns these weights in all rows,
    whichever example is the row's own.

    size: of the global batch.
    Raises GenaxError for stratified sampling of fewer than two examples, or of more than there are.
    """
    if not stratified:
        return jnp.full((size, size), -math.log(size * dataset_size))
    others = size - 1
    if not 1 <= others < dataset_size:
        raise GenaxError(
            f"stratified sampling takes batches of 2 to dataset_size={dataset_size} examples, not "
            f"{size}; change config.batch_size or config.dataset_size, or set "
            "config.stratified=False."
        )
    own, rest = jnp.eye(size, dtype=bool), jnp.full((size, size), -math.log(others))
    one = math.log((dataset_size - others) / (dataset_size * others))
    rest = jnp.where(jnp.roll(own, 1, axis=1), one, rest)
    return jnp.where(own, -math.log(dataset_size), rest)
