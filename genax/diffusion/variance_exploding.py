"""The process of EDM, whose time is the standard deviation of the noise."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


@dataclass(frozen=True)
class VarianceExploding:
    """Process noisy = clean + time * noise (Karras et al. 2022, table 1).

    log_mean, log_deviation: mean and standard deviation of ln(time) in training, which is normal.
    """

    log_mean: float = -1.2
    log_deviation: float = 1.2

    def sample_time(self, key: Key[Array, ""]) -> Float[Array, ""]:
        """Return a log-normal time."""
        return jnp.exp(self.log_mean + self.log_deviation * jax.random.normal(key))

    def signal(self, times: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return 1 for each time."""
        return jnp.ones_like(times)

    def sigma(self, times: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return the times."""
        return times

    def prior(self, times: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return the times. At a time to begin from, the data is negligible beside the noise."""
        return times

    def time_of(self, ratios: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return the times at which sigma / signal has these values."""
        return ratios
