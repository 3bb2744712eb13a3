"""Variance-preserving diffusion in continuous time, and its relative with less variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from genax.core.errors import GenaxError


@dataclass(frozen=True)
class VariancePreserving:
    """Process of the VP SDE dx = -beta(t) x / 2 dt + sqrt(beta(t)) dw (Song et al. 2021, eq. 11).

    beta(t) = beta_min + t (beta_max - beta_min) for times from 0 to 1. DDPM's chain is its
    discretisation in 1000 steps.

    smallest_time: training draws times from here to 1. At time 0 the score is infinite.
    Raises GenaxError unless 0 <= beta_min <= beta_max, beta_max > 0 and 0 <= smallest_time < 1.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    smallest_time: float = 1e-5
    largest_time: ClassVar[float] = 1.0

    def __post_init__(self):
        if not (0 <= self.beta_min <= self.beta_max and self.beta_max > 0):
            raise GenaxError(
                f"{type(self).__name__}: beta_min={self.beta_min} and beta_max={self.beta_max}; it "
                "needs 0 <= beta_min <= beta_max and a beta_max above 0."
            )
        check_smallest_time(self, self.smallest_time)

    def sample_time(self, key: Key[Array, ""]) -> Float[Array, ""]:
        """Return a time. All are equally likely."""
        return jax.random.uniform(key, minval=self.smallest_time, maxval=1.0)

    def signal(self, times: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return exp(-integral of beta / 2) (appendix C, eq. 33)."""
        return jnp.exp(-self._integral(times) / 2)

    def sigma(self, times: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return sqrt(1 - signal^2)."""
        return jnp.sqrt(-jnp.expm1(-self._integral(times)))

    def prior(self, times: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return 1, since data of variance 1 has that variance at every time."""
        return jnp.ones_like(times)

    def time_of(self, ratios: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return the times at which sigma / signal has these values."""
        return self._time_of_integral(jnp.log1p(jnp.square(ratios)))

    def _time_of_integral(self, integral: Array) -> Array:
        """Return the times at which the integral of beta has these values."""
        slope = self.beta_max - self.beta_min
        root = jnp.sqrt(self.beta_min**2 + 2 * slope * integral)
        return 2 * integral / (self.beta_min + root)

    def _integral(self, times: Array) -> Array:
        """Return the integral of beta from 0 to each time."""
        return times * self.beta_min + jnp.square(times) * (self.beta_max - self.beta_min) / 2


@dataclass(frozen=True)
class SubVariancePreserving(VariancePreserving):
    """Process of the sub-VP SDE, with the signal of the VP SDE and less noise.

    Song et al. 2021, eq. 12. The standard deviation of the noise is the VP SDE's variance.
    """

    def sigma(self, times: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return 1 - signal^2."""
        return -jnp.expm1(-self._integral(times))

    def time_of(self, ratios: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return the times at which sigma / signal has these values."""
        # The signal s solves (1 - s^2) / s = ratio, and is the exponential of -arcsinh(ratio / 2).
        return self._time_of_integral(2 * jnp.arcsinh(ratios / 2))


def check_smallest_time(process: object, time: float) -> None:
    """Raise GenaxError unless a process's smallest time of training is from 0 to 1, without 1."""
    if not 0 <= time < 1:
        raise GenaxError(
            f"{type(process).__name__}: smallest_time={time} must be from 0 to 1, without 1."
        )
