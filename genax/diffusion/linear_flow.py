"""Linear paths between data and noise: flow matching and rectified flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from genax.core.errors import GenaxError

# A key -> a time between 0 and 1.
DrawTime = Callable[[Key[Array, ""]], Float[Array, ""]]


def logit_normal(mean: float = 0.0, deviation: float = 1.0) -> DrawTime:
    """Return a draw of times whose logit is normal (Esser et al. 2024, eq. 19).

    mean: above 0 for more times near the noise, below 0 for more near the data.
    Raises GenaxError for a deviation that is not above 0.
    """
    if not deviation > 0:
        raise GenaxError(f"logit_normal: deviation={deviation} has to be above 0.")
    return lambda key: jax.nn.sigmoid(mean + deviation * jax.random.normal(key))


def uniform_time(key: Key[Array, ""]) -> Float[Array, ""]:
    """Draw a time from 2^-24 to 1, so that there is some noise."""
    return jax.random.uniform(key, minval=2.0**-24)


def shifted(times: Any, shift: float) -> Any:
    """Return shift t / (1 + (shift - 1) t), closer to the noise for a shift above 1.

    Esser et al. 2024, eq. 23: images of n times as many pixels have the same uncertainty at times
    that are shifted by sqrt(n).
    """
    return shift * times / (1 + (shift - 1) * times)


@dataclass(frozen=True)
class LinearFlow:
    """Process noisy = (1 - t) clean + t noise for times from 0 to 1.

    It is the path of flow matching (Lipman et al. 2023) and rectified flow (Liu et al. 2023), with
    the times of Stable Diffusion 3, in which 1 is noise.

    draw_time: draws a time of training, uniform by default; see `logit_normal`.
    shift: of the times that are drawn, see `shifted`. 1 leaves them as they are.
    Raises GenaxError for a shift that is not above 0.
    """

    draw_time: DrawTime = uniform_time
    shift: float = 1.0
    largest_time: ClassVar[float] = 1.0

    def __post_init__(self):
        if not self.shift > 0:
            raise GenaxError(f"LinearFlow: shift={self.shift} has to be above 0.")

    def sample_time(self, key: Key[Array, ""]) -> Float[Array, ""]:
        """Return a time."""
        return shifted(self.draw_time(key), self.shift)

    def signal(self, times: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return 1 - t."""
        return 1 - times

    def sigma(self, times: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return t."""
        return times

    def prior(self, times: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return 1, the noise of time 1, where sampling begins."""
        return jnp.ones_like(times)

    def time_of(self, ratios: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return the times at which sigma / signal has these values."""
        return ratios / (1 + ratios)
