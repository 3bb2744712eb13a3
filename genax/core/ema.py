"""Exponential moving averages of parameters and collections, kept in the state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from genax.core import tree
from genax.core.errors import GenaxError

Decay = float | Callable[[jax.Array], jax.Array]


def start(decays: Mapping[str, Decay], params: Any, collections: Any) -> dict[str, jax.Array]:
    """The averages before the first step by path: what they are averages of.

    Raises GenaxError if a pattern names what has no average, such as a counter.
    """
    own = [pattern for pattern in decays if _top(pattern) in collections]
    others = [pattern for pattern in decays if pattern not in own]
    leaves = tree.select(params, others, "Task.ema: pattern")
    leaves |= tree.select(collections, own, "Task.ema: pattern")
    for path, leaf in leaves.items():
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise GenaxError(f"Task.ema names {path} of {leaf.dtype}, which has no average.")
    return {path: jnp.copy(leaf) for path, leaf in leaves.items()}


def advance(
    decays: Mapping[str, Decay], ema: Mapping, params: Any, collections: Any, step: jax.Array
) -> dict[str, jax.Array]:
    """decay * average + (1 - decay) * leaf; the first matching pattern gives the decay.

    step: updates before this one.
    """
    leaves = tree.flatten(params) | tree.flatten(collections)
    moved = {}
    for path, average in ema.items():
        in_collection = _top(path) in collections
        found = next(
            decay
            for pattern, decay in decays.items()
            if tree.matches(pattern, path) and in_collection == (_top(pattern) in collections)
        )
        decay, leaf = found(step) if callable(found) else found, leaves[path]
        mixed = (average + (1.0 - decay) * (leaf - average)).astype(average.dtype)
        # If nothing of the average is to stay, the sum above is the leaf but for rounding.
        moved[path] = jnp.where(decay == 0.0, leaf, mixed)
    return moved


def averaged(variables: Mapping[str, Any], ema: Mapping) -> dict[str, Any]:
    """Linen variables with averages in place of what is averaged."""
    collections = set(variables) - {"params"}
    named = {
        path if _top(path) in collections else f"params/{path}": leaf for path, leaf in ema.items()
    }
    return tree.unflatten(tree.flatten(variables) | named, variables)


def _top(path: str) -> str:
    return path.split("/")[0]
