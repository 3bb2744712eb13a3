"""Distributions that encoders and decoders return, as pytrees of their parameters."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float


@struct.dataclass
class Gaussian:
    """Independent normal variables N(mean, exp(log_variance))."""

    mean: Float[Array, "*shape"]
    log_variance: Float[Array, "*shape"]

    def log_prob(self, x: Float[Array, "*#shape"]) -> Float[Array, "*shape"]:
        """Return the log density of each element, in nats. x broadcasts over the samples."""
        error = jnp.square(x - self.mean) * jnp.exp(-self.log_variance)
        return -0.5 * (math.log(2 * math.pi) + self.log_variance + error)

    def transform(self, noise: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return mean + sigma noise, which is a sample if the noise is standard normal."""
        return self.mean + jnp.exp(0.5 * self.log_variance) * noise

    def kl_to_standard(self) -> Float[Array, "*shape"]:
        """Return KL(N(mean, variance) || N(0, 1)) of each element, in nats.

        0.5 (mean^2 + variance - 1 - log variance): Kingma & Welling 2014, appendix B.
        """
        variance = jnp.exp(self.log_variance)
        return 0.5 * (jnp.square(self.mean) + variance - 1.0 - self.log_variance)

    def kl_to(self, other: Gaussian) -> Float[Array, "*shape"]:
        """Return KL(self || other) of each element, in nats."""
        ratio = self.log_variance - other.log_variance
        square = jnp.square(self.mean - other.mean) * jnp.exp(-other.log_variance)
        return 0.5 * (jnp.exp(ratio) + square - 1.0 - ratio)


# The range of a posterior's log-variance, as in the code of latent diffusion.
LOG_VARIANCES = (-30.0, 20.0)


def posterior_of(mean: Float[Array, "*shape"], log_variance: Float[Array, "*shape"]) -> Gaussian:
    """Return the posterior of an encoder's outputs, its log-variance within `LOG_VARIANCES`."""
    return Gaussian(mean, log_variance.clip(*LOG_VARIANCES))


@struct.dataclass
class Bernoulli:
    """Independent binary variables, given by their logits."""

    logits: Float[Array, "*shape"]

    @property
    def mean(self) -> Float[Array, "*shape"]:
        """Probability of a one."""
        return jax.nn.sigmoid(self.logits)

    def log_prob(self, x: Float[Array, "*#shape"]) -> Float[Array, "*shape"]:
        """Return x log p + (1 - x) log(1 - p) of each element, in nats.

        x: in [0, 1]. It broadcasts over the samples.
        """
        return x * self.logits - jax.nn.softplus(self.logits)


@struct.dataclass
class DiscretisedLogistic:
    """Independent levels k / (levels - 1) in [0, 1], each the mass of a logistic around it.

    Salimans et al. 2017 (arXiv:1701.05517), eq. 2. A level has the mass between the middles to its
    two neighbours; the lowest one has all below, and the highest one all above, so that the masses
    of all levels add up to 1.

    location, log_scale: of the logistic, in the unit of the levels.
    levels: how many there are.
    """

    location: Float[Array, "*shape"]
    log_scale: Float[Array, "*shape"]
    levels: int = struct.field(pytree_node=False, default=256)

    @property
    def mean(self) -> Float[Array, "*shape"]:
        """The logistic's mean, moved into [0, 1]."""
        return self.location.clip(0.0, 1.0)

    def log_prob(self, x: Float[Array, "*#shape"]) -> Float[Array, "*shape"]:
        """Return the log probability of each element, in nats.

        It is exact however far x lies in a tail: sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b)
        (1 - exp(b - a)). PixelCNN++'s code takes a density there instead.

        x: in [0, 1]. It broadcasts over the samples.
        """
        width = 1.0 / (self.levels - 1)
        inverse = jnp.exp(-self.log_scale)
        upper = (x - self.location + 0.5 * width) * inverse
        lower = (x - self.location - 0.5 * width) * inverse
        below, above = jax.nn.log_sigmoid(upper), jax.nn.log_sigmoid(-lower)
        between = below + above + _log_one_minus_exp(-width * inverse)
        lowest, highest = x < 0.5 * width, x > 1.0 - 0.5 * width
        return jnp.where(lowest, below, jnp.where(highest, above, between))


def _log_one_minus_exp(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return log(1 - exp(x)) of negative numbers."""
    return jnp.log(-jnp.expm1(x))
