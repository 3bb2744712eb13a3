"""Exponential moving averages of parameters, kept in the state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from genax.core import tree


def ema_warmup(decay: float) -> Callable[[jax.Array], jax.Array]:
    """min(decay, (1 + step) / (10 + step)): short runs do not average in their own beginning."""

    def at(step: jax.Array) -> jax.Array:
        return jnp.minimum(decay, (1.0 + step) / (10.0 + step))

    return at


def start(decays: Mapping[str, Any], params: Any) -> dict[str, jax.Array]:
    """The averages before the first step: the parameters themselves, by path."""
    return {p: jnp.copy(leaf) for p, leaf in tree.select(params, tuple(decays)).items()}


def advance(decays: Mapping[str, Any], ema: Mapping, params: Any, step: jax.Array) -> dict:
    """decay * average + (1 - decay) * parameter, the first matching pattern giving the decay."""
    leaves = tree.flatten(params)
    averaged = {}
    for path, average in ema.items():
        decay = next(d for pattern, d in decays.items() if tree.matches(pattern, path))
        decay = decay(step) if callable(decay) else decay
        averaged[path] = average + (1.0 - decay) * (leaves[path] - average)
    return averaged


def averaged(params: Any, ema: Mapping) -> Any:
    """The parameters with averages in place of what is averaged."""
    return tree.unflatten(tree.flatten(params) | dict(ema), params)
