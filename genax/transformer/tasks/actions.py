"""Kinds of actions: how an agent reads, predicts and chooses them, and what an error costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Shaped

from genax.core import Loss
from genax.core.task import Batch
from genax.transformer.cross_entropy import cross_entropy

# (returns, states, actions, timesteps, mask, train) -> what the agent returns.
Agent = Callable[..., Any]


@dataclass(frozen=True)
class Actions:
    """Kind of actions.

    predict: (agent, batch, train) -> the prediction for each step, [b, k, a], float32.
    cost: (predicted, batch) -> the Loss of the prediction.
    choose: (predicted [b, a], keys [b]) -> actions [b, ...].
    """

    predict: Callable[[Agent, Batch, bool], Float[Array, "b k a"]]
    cost: Callable[[Float[Array, "b k a"], Batch], Loss]
    choose: Callable[[Float[Array, "b a"], Key[Array, " b"]], Shaped[Array, "b ..."]]


def one_hot_actions(count: int) -> Actions:
    """Actions 0 to count - 1 that the agent reads as vectors. It takes the likeliest."""

    def predict(agent, batch, train):
        taken = jax.nn.one_hot(batch["actions"], count)
        return _call(agent, batch, taken, train)[1].astype(jnp.float32)

    return Actions(predict, _likelihood, lambda scores, keys: _integers(scores.argmax(-1)))


def numbered_actions() -> Actions:
    """Actions that the agent reads as numbers. It draws from its prediction, as in the paper."""

    def predict(agent, batch, train):
        return _call(agent, batch, batch["actions"], train).astype(jnp.float32)

    def choose(scores, keys):
        return _integers(jax.vmap(jax.random.categorical)(keys, scores))

    return Actions(predict, _likelihood, choose)


def continuous_actions() -> Actions:
    """Actions in [-1, 1] with a squared error. The agent takes its prediction."""

    def predict(agent, batch, train):
        return _call(agent, batch, batch["actions"], train)[1].astype(jnp.float32)

    def cost(predicted, batch):
        real = batch["real"].astype(jnp.float32)[..., None]
        return Loss(jnp.square(predicted - batch["actions"]), real)

    return Actions(predict, cost, lambda predicted, keys: predicted)


def _call(agent, batch, actions, train):
    return agent(
        batch["returns"], batch["states"], actions, batch["timesteps"], batch["real"], train
    )


def _likelihood(scores, batch) -> Loss:
    """Loss -log p(action), in nats. Metric: accuracy."""
    real = batch["real"].astype(jnp.float32)
    hits = (scores.argmax(-1) == batch["actions"]).astype(jnp.float32)
    return Loss(cross_entropy(scores, batch["actions"]), real, {"accuracy": Loss(hits, real)})


def _integers(actions):
    return actions.astype(jnp.int32)
