"""Exponential moving averages of parameters and collections, kept in the state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genax.core import tree
from genax.core.errors import GenaxError
from genax.core.task import Stage

Decay = float | Callable[[jax.Array], jax.Array]


def ema_warmup(decay: float) -> Decay:
    """min(decay, (1 + n) / (10 + n)) at the n-th update: short runs forget their own beginning.

    The first update has n = 1, as in the code of score SDEs (Song et al. 2021) and of latent
    diffusion (Rombach et al. 2022).
    """
    return lambda step: jnp.minimum(decay, (2.0 + step) / (11.0 + step))


def ema_late(decay: float, start: int) -> Decay:
    """Copies before the update number `start`, `decay` from it on (BigGAN, Brock et al. 2019)."""
    return lambda step: jnp.where(step + 1 < start, 0.0, decay)


def ema_half_life(
    images: float, batch_size: int, ramp_up: float | None = None, stages: Sequence[Stage] = ()
) -> Decay:
    """0.5^(batch / min(images, ramp_up * seen)) (StyleGAN2-ADA, Karras et al. 2020; EDM, 2022).

    images: after which half of an average is new. batch_size: config.batch_size.
    ramp_up: share of the images seen before the step that bounds the half-life, such as 0.05.
    stages: of the task, if some of them have a batch size of their own.
    """
    sizes = np.array([stage.batch_size or batch_size for stage in stages] or [batch_size])
    steps = np.array([stage.steps for stage in stages[:-1]], int)
    starts, before = np.cumsum([0, *steps]), np.cumsum([0, *(steps * sizes[:-1])])

    def at(step):
        stage = jnp.searchsorted(starts, step, side="right") - 1
        size, begun = (jnp.asarray(x, jnp.float32)[stage] for x in (sizes, before))
        seen = begun + size * (step - jnp.asarray(starts)[stage])
        bound = images if ramp_up is None else jnp.minimum(images, ramp_up * seen)
        return 0.5 ** (size / jnp.maximum(bound, 1e-8))

    return at


def start(decays: Mapping[str, Decay], params: Any, collections: Any) -> dict[str, jax.Array]:
    """The averages before the first step by path: what they are averages of.

    Raises GenaxError if a pattern names what has no average, such as a counter.
    """
    own = [pattern for pattern in decays if _top(pattern) in collections]
    leaves = tree.select(params, [pattern for pattern in decays if pattern not in own])
    leaves |= tree.select(collections, own)
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
        # The sum above is the leaf but for rounding where nothing is to stay of the average.
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
