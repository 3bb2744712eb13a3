"""Likelihoods of images in [0, 1]: what a decoder puts out, and the distribution that it means."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.vae.distributions import Bernoulli, DiscretisedLogistic, Gaussian

# The deviation of a learned Gaussian is above half of a level of 256. A pixel that is the same in
# all images would otherwise have a density without bound.
LEAST_DEVIATION = 1 / 512
# Bounds of the logarithm of a scale, for images in [-1, 1]: PixelCNN++'s least one and one
# that reaches far beyond them.
_LOG_SCALES = (-7.0, 7.0)


@dataclass(frozen=True)
class Likelihood:
    """How the outputs of a decoder are read as a distribution.

    heads: names of its outputs, each of an image's shape.
    distribution: (outputs) -> an object with `mean` and `log_prob`.
    binary: whether it is a likelihood of zeros and ones.
    """

    heads: tuple[str, ...]
    distribution: Callable[..., Any]
    binary: bool = False


def fixed_gaussian(mean: Float[Array, "*shape"], deviation: float) -> Gaussian:
    """Return N(sigmoid(mean), deviation^2)."""
    log_variance = jnp.full_like(mean, 2 * math.log(deviation))
    return Gaussian(jax.nn.sigmoid(mean), log_variance)


def learned_gaussian(
    mean: Float[Array, "*shape"], log_variance: Float[Array, "*shape"]
) -> Gaussian:
    """Return N(sigmoid(mean), exp(log_variance)), its deviation kept above `LEAST_DEVIATION`.

    Kingma & Welling 2014, eq. 12, with the mean within (0, 1) as in section 5. The bound is
    smooth, least + softplus(log_variance - least), so that a gradient leads away from it.
    """
    least = 2 * math.log(LEAST_DEVIATION)
    return Gaussian(jax.nn.sigmoid(mean), least + jax.nn.softplus(log_variance - least))


def discretised_logistic(
    location: Float[Array, "*shape"], log_scale: Float[Array, "*shape"], levels: int = 256
) -> DiscretisedLogistic:
    """Return the logistic whose outputs are in the unit of images in [-1, 1], as in PixelCNN++."""
    log_scale = log_scale.clip(*_LOG_SCALES)
    return DiscretisedLogistic(0.5 + 0.5 * location, log_scale - math.log(2), levels)


BERNOULLI = Likelihood(("logits",), Bernoulli, binary=True)
LEARNED_GAUSSIAN = Likelihood(("mean", "log_variance"), learned_gaussian)
# What a setting `likelihood` may be.
LIKELIHOODS = ("bernoulli", "gaussian", "learned_gaussian", "discretised_logistic")


def likelihood_of(
    name: str, binarisation: str = "none", deviation: float = 1.0, levels: int = 256
) -> Likelihood:
    """Return the likelihood of a name of `LIKELIHOODS`.

    binarisation: of the images, "none" or a word of `genax.data.binarised`.
    deviation: of "gaussian".
    levels: of "discretised_logistic".
    Raises GenaxError for a likelihood of grey levels or of real numbers if images are binary.
    """
    found = {
        "bernoulli": BERNOULLI,
        "gaussian": Likelihood(("mean",), partial(fixed_gaussian, deviation=deviation)),
        "learned_gaussian": LEARNED_GAUSSIAN,
        "discretised_logistic": Likelihood(
            ("location", "log_scale"), partial(discretised_logistic, levels=levels)
        ),
    }[name]
    if binarisation != "none" and not found.binary:
        raise GenaxError(
            f"config.likelihood={name} is not one of the zeros and ones that "
            f"config.binarisation={binarisation} makes: choose bernoulli, or binarisation=none."
        )
    return found
