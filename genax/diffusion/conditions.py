"""What the denoiser gets besides noisy samples and times, and how it is left out in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from genax.core import GenaxError, per_example
from genax.core.task import Batch
from genax.diffusion.process import expand
from genax.nn.conditions import Condition


def nulled(arguments: Mapping[str, Any], null: Mapping[str, Any]) -> dict[str, Array]:
    """Arguments with the values of `null` in place of those of the same names.

    null: for each name what one example gets, such as the number of the null class.
    Raises GenaxError for a name that is no argument.
    """
    missing = sorted(set(null) - set(arguments))
    if missing:
        raise GenaxError(
            f"null values are given for {missing}, but the denoiser's conditions are "
            f"{sorted(arguments)}: use the same names in the condition and in the null values."
        )
    return dict(arguments) | {
        name: jnp.broadcast_to(jnp.asarray(value, arguments[name].dtype), arguments[name].shape)
        for name, value in null.items()
    }


def dropped(condition: Condition, probability: float, **null: Any) -> Condition:
    """A condition that gives the null values instead to some examples, drawn at random.

    This trains one network with and without conditions (Ho & Salimans 2022, algorithm 1), as
    `classifier_free` needs. All of an example's values of `null` are dropped together.
    probability: that an example's condition is dropped.
    """
    if not 0 <= probability <= 1:
        raise GenaxError(
            f"a condition cannot be dropped with probability {probability}: choose one from 0 to 1."
        )

    def condition_or_null(nets: nn.Module, batch: Batch) -> dict[str, Any]:
        arguments = condition(nets, batch)
        drop = per_example(jax.random.bernoulli, nets, batch, probability)

        def choose(absent, given):
            return jnp.where(expand(drop, absent), absent, given)

        return jax.tree.map(choose, nulled(arguments, null), arguments)

    return condition_or_null
