"""The probability flow: the ordinary differential equation with the marginals of a process."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core import GenaxError
from genax.diffusion.process import Process


def velocity(
    process: Process,
    time: Float[Array, ""],
    noisy: Float[Array, "n ..."],
    clean: Float[Array, "n ..."],
) -> Float[Array, "n ..."]:
    """Return signal' clean + sigma' noise, with derivatives by time.

    It is the flow of Song et al. 2021, eq. 13, for any process in continuous time, and needs no
    signal.

    clean: the clean samples that the network expects from the noisy ones at this time.
    """

    def level(time):
        return process.signal(time[None])[0], process.sigma(time[None])[0]

    (signal, sigma), slopes = jax.jvp(level, (time,), (jnp.ones_like(time),))
    return slopes[0] * clean + slopes[1] * (noisy - signal * clean) / sigma


def diffrax() -> ModuleType | Any:
    """Return the package for differential equations.

    Raises GenaxError if it is missing.
    """
    try:
        import diffrax
    except ImportError as error:
        raise GenaxError(
            "likelihoods by the probability flow and adaptive solvers need diffrax: "
            'python -m pip install -e ".[ode]"; an experiment leaves the likelihood out by '
            "config.probes=0."
        ) from error
    return diffrax
