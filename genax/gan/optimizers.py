"""Optimizers of the first GANs, as transformations of optax."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


def clip_parameters(most: float) -> optax.GradientTransformation:
    """Keep parameters within [-most, most]: the last of a chain.

    Arjovsky et al. 2017 (arXiv:1701.07875), algorithm 1: the parameters are clipped after each
    move. Biases and the gains of BatchNorm are parameters too. The official code clips before each
    move, so there the generator sees a critic one move outside of the bounds.
    """

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("clip_parameters needs the parameters that it clips")
        bounded = jax.tree.map(lambda p, u: jnp.clip(p + u, -most, most) - p, params, updates)
        return bounded, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


class _Moving(NamedTuple):
    step: jax.Array
    velocity: Any


def rising_momentum(
    learning_rate: optax.Schedule, momentum: optax.Schedule
) -> optax.GradientTransformation:
    """Gradient descent with momentum: v <- momentum v - learning_rate g, parameter + v.

    momentum, learning_rate: functions of the step, as in the settings of Goodfellow et al. 2014.
    """

    def init(params):
        return _Moving(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params=None):
        rate, kept = learning_rate(state.step), momentum(state.step)
        velocity = jax.tree.map(lambda v, g: kept * v - rate * g, state.velocity, updates)
        return velocity, _Moving(state.step + 1, velocity)

    return optax.GradientTransformation(init, update)
