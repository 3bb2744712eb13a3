"""Processes that add noise to the unscaled image: of EDM, of the VE SDE and of NCSN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from genax.core.errors import GenaxError
from genax.diffusion.process import look_up
from genax.diffusion.variance_preserving import check_smallest_time


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


@dataclass(frozen=True)
class GeometricExploding:
    """Process of the VE SDE, whose noise grows geometrically with times from 0 to 1.

    sigma(t) = sigma_min (sigma_max / sigma_min)^t (Song et al. 2021, eq. 9 and 30). The paper's
    images have values from 0 to 1. Those of genax have values from -1 to 1, so the same noise has
    twice the paper's sigmas: the defaults are those of CIFAR-10, 0.01 and 50, times 2.

    sigma_max: at least the largest distance between two images of the data.
    smallest_time: training draws times from here to 1.
    Raises GenaxError unless 0 < sigma_min < sigma_max and 0 <= smallest_time < 1.
    """

    sigma_min: float = 0.02
    sigma_max: float = 100.0
    smallest_time: float = 1e-5
    largest_time: ClassVar[float] = 1.0

    def __post_init__(self):
        if not 0 < self.sigma_min < self.sigma_max:
            raise GenaxError(
                f"GeometricExploding: sigma_min={self.sigma_min} and sigma_max={self.sigma_max}; "
                "it needs 0 < sigma_min < sigma_max."
            )
        check_smallest_time(self, self.smallest_time)

    def sample_time(self, key: Key[Array, ""]) -> Float[Array, ""]:
        """Return a time. All are equally likely."""
        return jax.random.uniform(key, minval=self.smallest_time, maxval=1.0)

    def signal(self, times: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return 1 for each time."""
        return jnp.ones_like(times)

    def sigma(self, times: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return the standard deviation of the noise."""
        # The base is rounded from float64, and the power is an exponential of a short sum.
        return jnp.exp(np.log(self.sigma_min) + times * np.log(self.sigma_max / self.sigma_min))

    def prior(self, times: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return sigma. At time 1 the data is negligible beside the noise."""
        return self.sigma(times)

    def time_of(self, ratios: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return the times at which sigma has these values."""
        return jnp.log(ratios / self.sigma_min) / np.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True)
class NoiseLevels:
    """Geometric sequence of noise levels, with whole numbers as times (Song & Ermon 2019).

    Time 0 has the least noise. NCSN counts its levels the other way round, see `ncsn_score`. Images
    have values from -1 to 1, so the defaults are the paper's 0.01 and 1 times 2.

    Raises GenaxError unless 0 < sigma_min < sigma_max and there are at least 2 levels.
    """

    sigma_min: float = 0.02
    sigma_max: float = 2.0
    num_levels: int = 10

    @property
    def largest_time(self) -> int:
        """The number of the last level."""
        return self.num_levels - 1

    def __post_init__(self):
        if not 0 < self.sigma_min < self.sigma_max or self.num_levels < 2:
            raise GenaxError(
                f"NoiseLevels: {self.num_levels} levels from sigma_min={self.sigma_min} to "
                f"sigma_max={self.sigma_max}; it needs 0 < sigma_min < sigma_max and 2 levels."
            )

    @property
    def sigmas(self) -> Float[np.ndarray, " levels"]:
        """Standard deviations of the noise at each time, float64, rising."""
        return np.geomspace(self.sigma_min, self.sigma_max, self.num_levels)

    def sample_time(self, key: Key[Array, ""]) -> Int[Array, ""]:
        """Return a level. All are equally likely."""
        return jax.random.randint(key, (), 0, self.num_levels)

    def signal(self, times: Int[Array, " b"]) -> Float[Array, " b"]:
        """Return 1 for each time."""
        return jnp.ones(times.shape)

    def sigma(self, times: Int[Array, " b"]) -> Float[Array, " b"]:
        """Return the standard deviation of the noise."""
        return look_up(self.sigmas, times)

    def prior(self, times: Int[Array, " b"]) -> Float[Array, " b"]:
        """Return sigma. Langevin dynamics at the largest level forgets where it began."""
        return self.sigma(times)
