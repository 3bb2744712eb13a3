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
