"""Churn: noise that a solver adds before its steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core import GenaxError
from genax.diffusion.process import Process
from genax.diffusion.solvers.steps import Level, check_invertible, level_at

MOST = math.sqrt(2) - 1


@dataclass(frozen=True)
class Churn:
    """Settings of the noise that is added before each step (Karras et al. 2022, algorithm 2).

    amount: S_churn. Each of n steps raises sigma / signal by min(amount / n, sqrt(2) - 1) of it.
    smallest, largest: S_min and S_max, the range of sigma / signal in which noise is added.
    noise: S_noise, the standard deviation of new noise.
    """

    amount: float | int
    smallest: float | int = 0.0
    largest: float | int = math.inf
    noise: float | int = 1.0

    def __post_init__(self):
        if not self.amount >= 0 or not self.noise >= 0 or not self.smallest <= self.largest:
            raise GenaxError(
                f"{self}: amount and noise have to be at least 0, and smallest at most largest."
            )


class Raised(NamedTuple):
    """Levels after the noise of `Churn`, and how samples get there.

    ratio: factor of the samples.
    deviation: factor of new noise.
    """

    level: Level
    ratio: Float[Array, "*steps"]
    deviation: Float[Array, "*steps"]

    def reach(self, noisy: Array, noise: Array) -> Array:
        """Return samples with new noise."""
        return self.ratio * noisy + self.deviation * noise


def raised(process: Process, now: Level, churn: Churn | None) -> Raised:
    """Return the levels at which steps begin after noise was added.

    Raises GenaxError for churn on a process that is not `Invertible`.
    """
    if churn is None:
        return Raised(now, jnp.ones_like(now.sigma), jnp.zeros_like(now.sigma))
    found = check_invertible("churn", process)
    ratio = now.sigma / now.signal
    adds = (churn.smallest <= ratio) & (ratio <= churn.largest)
    gamma = min(churn.amount / len(ratio), MOST)
    noisier = level_at(process, found.time_of(ratio * (1 + gamma)))
    time, signal, sigma = (
        jnp.where(adds, after, before) for after, before in zip(noisier, now, strict=True)
    )
    # A discrete process has no time beyond its last one, so its noise may rise less.
    more = jnp.sqrt(jnp.maximum((sigma / signal) ** 2 - ratio**2, 0.0))
    deviation = jnp.where(adds, churn.noise * signal * more, 0.0)
    return Raised(Level(time, signal, sigma), signal / now.signal, deviation)
