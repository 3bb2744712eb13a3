"""Initial distributions of weights that several families share."""

from __future__ import annotations

from jax.nn.initializers import Initializer, variance_scaling


def fan_avg_uniform(scale: float = 1.0) -> Initializer:
    """Uniform with variance `scale` / mean(fan in, fan out), as in the code of DDPM (2020).

    scale=0 stands for 1e-10, as there: a layer that starts as good as zero but not at a tie.
    """
    return variance_scaling(scale or 1e-10, "fan_avg", "uniform")
