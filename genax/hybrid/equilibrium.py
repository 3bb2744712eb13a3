"""The equilibrium of VAE-GAN: a player that is too far ahead waits for the other."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

Scalar = Float[Array, ""]


class Gate(NamedTuple):
    """Who moves: 1 for a player that does, 0 for one that waits."""

    discriminator: Scalar
    decoder: Scalar


def gate(real: Scalar, fake: Scalar, equilibrium: float | Scalar, margin: float) -> Gate:
    """Return who moves, as in the official code of Larsen et al. 2016.

    The discriminator waits if the mean loss of real images or that of fakes is below
    equilibrium - margin, the decoder if one of them is above equilibrium + margin. If both would
    wait, both move.

    real, fake: mean losses of the discriminator over the global batch.
    """
    ahead = (real < equilibrium - margin) | (fake < equilibrium - margin)
    behind = (real > equilibrium + margin) | (fake > equilibrium + margin)
    both = ahead & behind
    return Gate(*((~waits | both).astype(jnp.float32) for waits in (ahead, behind)))


def still_without_gradient(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """Return an optimizer that leaves everything as it is if the whole gradient is 0.

    A loss of weight 0 then takes no step: neither momentum moves parameters nor does Adam's count
    of steps grow. A gradient that is not a number is passed on.
    """

    def update(updates, state, params=None):
        moved, new = optimizer.update(updates, state, params)
        moves = jnp.stack([jnp.any(leaf != 0) for leaf in jax.tree.leaves(updates)]).any()

        def chosen(new: Any, old: Any) -> Any:
            return jnp.where(moves, new, old)

        still = jax.tree.map(jnp.zeros_like, moved)
        return jax.tree.map(chosen, moved, still), jax.tree.map(chosen, new, state)

    return optax.GradientTransformation(optimizer.init, update)
