"""Initial distributions of weights that several families share."""

from __future__ import annotations

from jax.nn.initializers import Initializer, variance_scaling


def fan_avg_uniform(scale: float = 1.0) -> Initializer:
    """A uniform distribution of variance `scale` / mean(fan in, fan out), as in DDPM's code.

    scale: 0 stands for 1e-10, as in that code, so that no two weights of a layer are equal.
    """
    return variance_scaling(scale or 1e-10, "fan_avg", "uniform")
