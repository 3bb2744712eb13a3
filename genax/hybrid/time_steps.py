"""Initial values of the time steps of state-space models."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class TimeSteps:
    """Biases under softplus that make time steps log-uniform, but not below the floor.

    Gu & Dao 2023, section 3.6, as in the official code. It is an initial distribution of a
    parameter.
    """

    least: float = 1e-3
    most: float = 0.1
    floor: float = 1e-4

    def __call__(self, key, shape, dtype=jnp.float32):
        """Draw biases."""
        low, high = math.log(self.least), math.log(self.most)
        steps = jnp.exp(jax.random.uniform(key, shape, dtype, low, high))
        return inverse_softplus(jnp.maximum(steps, self.floor))


def inverse_softplus(x: jax.Array) -> jax.Array:
    """Return the number whose softplus is x."""
    return x + jnp.log(-jnp.expm1(-x))
