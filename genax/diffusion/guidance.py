"""Guidance: one output from the network's outputs with and without conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from genax.diffusion.conditions import nulled
from genax.diffusion.process import expand

# (network, noisy, times, conditions) -> the output to use.
Guide = Callable[[Callable[..., Array], Array, Array, Mapping[str, Any]], Array]


def unguided(
    network: Callable[..., Array], noisy: Array, times: Array, arguments: Mapping[str, Any]
) -> Array:
    """Return the network's output with its conditions."""
    return network(noisy, times, **arguments)


def classifier_free(
    scale: float, interval: tuple[float, float] | None = None, **null: Any
) -> Guide:
    """Classifier-free guidance: output without + scale * (output with - output without) conditions.

    The network is called once, on a batch of both halves.

    scale: strength of the guidance. 1 means no guidance, 0 drops the conditions. The w of Ho &
      Salimans 2022, eq. 6, is scale - 1.
    interval: the least and the largest time at which to guide (Kynkaanniemi et al. 2024). The scale
      is 1 at other times. None means all times.
    null: for each condition that guidance strengthens, the value that it had in training if it was
      dropped. Other conditions are the same in both halves.
    """

    def guide(network, noisy, times, arguments):
        both = jax.tree.map(
            lambda *halves: jnp.concatenate(halves), dict(arguments), nulled(arguments, null)
        )
        outputs = network(
            jnp.tile(noisy, (2,) + (1,) * (noisy.ndim - 1)), jnp.tile(times, 2), **both
        )
        given, absent = jnp.split(outputs, 2)
        if interval is None:
            return absent + scale * (given - absent)
        guided = (interval[0] <= times) & (times <= interval[1])
        return absent + expand(jnp.where(guided, scale, 1.0), given) * (given - absent)

    return guide
