"""Guidance: how the network's outputs with and without conditions become one."""

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
    """The network's output under its conditions."""
    return network(noisy, times, **arguments)


def classifier_free(
    scale: float, interval: tuple[float, float] | None = None, **null: Any
) -> Guide:
    """Classifier-free guidance: without + scale * (with - without conditions).

    The network is called once, on a batch of both halves. A scale of 1 is no guidance, 0 drops the
    conditions; the w of Ho & Salimans 2022, eq. 6, is scale - 1.
    interval: the least and the largest time at which to guide (Kynkaanniemi et al. 2024); the
    scale is 1 at other times.
    null: for each condition that guidance strengthens, the value that it had where it was dropped
    in training. Other conditions are the same in both halves.
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
