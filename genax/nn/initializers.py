"""Initial distributions of weights that several chapters share."""

from __future__ import annotations

from jax.nn.initializers import Initializer, variance_scaling


def fan_avg_uniform(scale: float = 1.0) -> Initializer:
    """Uniform distribution of variance `scale` / mean(fan in, fan out), as in DDPM's code.

    scale: factor of the variance. 0 means 1e-10, as in that code, so that no two weights of a layer
      are equal.
    """
    return variance_scaling(scale or 1e-10, "fan_avg", "uniform")


def fan_in_uniform(scale: float = 1.0) -> Initializer:
    """Uniform distribution between +-scale / sqrt(fan in): scale 1 is PyTorch's for linear layers.

    PyTorch's `kaiming_uniform_` with a = sqrt(5) is the same.
    """
    return variance_scaling(scale**2 / 3, "fan_in", "uniform")
