"""Decision Transformers: the loss of their actions, and their returns when they act."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

from genax.core import Evaluator, Loss, example_keys
from genax.core.task import Batch
from genax.transformer.tasks.actions import Actions


class Networks(nn.Module):
    """Networks of an agent.

    agent: (returns, states, actions, timesteps, mask, train) -> the output that `Actions` reads.
    """

    agent: nn.Module


def action_loss(
    nets: Any, batch: Batch, actions: Actions, return_scale: float, train: bool = True
) -> Loss:
    """Cost of a wrong action, given returns, states and actions before it: Chen et al. 2021.

    Values are one per step ([b, k], or [b, k, a] for continuous actions), without the steps before
    an episode's start.

    batch: a batch of `TrajectoryData`.
    actions: the kind of actions.
    return_scale: divisor of the returns.
    train: whether dropout is on.
    """
    scaled = {**batch, "returns": batch["returns"] / return_scale}
    return actions.cost(actions.predict(nets.agent, scaled, train), batch)


def achieved_returns(
    make: Callable[[], Any],
    observe: Callable[[np.ndarray], np.ndarray],
    element: Mapping[str, jax.ShapeDtypeStruct],
    actions: Actions,
    targets: Sequence[float],
    episodes: int,
    max_steps: int,
    return_scale: float,
    anchors: tuple[float, float] | None = None,
    limit: int | None = None,
) -> Evaluator:
    """Evaluator that lets the agent act, and measures the mean return for each target return.

    Its scores are "return_<target>" for each target, and "rank_correlation", Spearman's between the
    returns asked for and achieved (0 if all achieve the same). With anchors it adds
    "normalized_<target>", on which the anchors are 0 and 100.

    make: makes an environment.
    observe, element: those of the data, see `TrajectoryData`.
    actions: the kind of actions.
    targets: returns that the agent is asked for.
    episodes: number of episodes for each target.
    max_steps: number of timesteps that the agent knows. Later ones count as the last.
    return_scale: divisor of the returns, as in training.
    anchors: mean returns of a random and of an expert player.
    limit: maximum number of steps of an episode. None means max_steps.
    """
    count, limit = len(targets) * episodes, limit or max_steps
    world = _World(make, observe, element["states"])

    def play(nets: Any, batch: Batch) -> Mapping[str, Any]:
        index, (agent, variables) = batch["index"], nets.agent.unbind()
        asked = jnp.asarray(targets, jnp.float32)[index % len(targets)]
        keys, b = example_keys(nets, batch), len(index)
        shapes = (
            jax.ShapeDtypeStruct((b, *element["states"].shape[1:]), element["states"].dtype),
            jax.ShapeDtypeStruct((b,), jnp.float32),
            jax.ShapeDtypeStruct((b,), jnp.bool_),
        )
        # The seeds are far from those that data is collected with.
        first = io_callback(world.reset, shapes, 10**9 + index // len(targets), ordered=True)

        def call(*args):
            return agent.apply(variables, *args)

        def step(carry):
            history, total, number, (state, _, _) = carry
            new = {
                "returns": (asked - total)[:, None] / return_scale,
                "states": state,
                "actions": jnp.zeros_like(history["actions"][:, 0]),
                "timesteps": jnp.full(b, jnp.minimum(number, max_steps - 1)),
                "real": jnp.ones(b, bool),
            }
            history = {
                name: jnp.concatenate([old[:, 1:], new[name][:, None].astype(old.dtype)], axis=1)
                for name, old in history.items()
            }
            predicted = actions.predict(call, history, False)[:, -1]
            now = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            action = actions.choose(predicted, now)
            history["actions"] = history["actions"].at[:, -1].set(action)
            after = io_callback(world.step, shapes, action, ordered=True)
            return history, total + after[1], number + 1, after

        def goes_on(carry):
            *_, number, (_, _, over) = carry
            return (number < limit) & ~over.all()

        history = {name: jnp.zeros((b, *spec.shape), spec.dtype) for name, spec in element.items()}
        carry = (history, jnp.zeros(b), 0, first)
        _, total, *_ = jax.lax.while_loop(goes_on, step, carry)
        return {"asked": asked, "achieved": total}

    def summarize(rows: Mapping[str, np.ndarray], workdir: Any = None) -> dict[str, float]:
        from scipy.stats import spearmanr

        found = {}
        for target in targets:
            mean = float(rows["achieved"][rows["asked"] == np.float32(target)].mean())
            found[f"return_{target:g}"] = mean
            if anchors is not None:
                least, best = anchors
                found[f"normalized_{target:g}"] = 100 * (mean - least) / (best - least)
        same = np.ptp(rows["achieved"]) == 0 or len(targets) == 1
        rank = 0.0 if same else spearmanr(rows["asked"], rows["achieved"]).statistic
        return found | {"rank_correlation": float(rank)}

    return Evaluator(play, summarize, examples=count)


class _World:
    """Environments side by side. Those that are over stand still and give no more reward."""

    def __init__(self, make: Callable, observe: Callable, states: jax.ShapeDtypeStruct):
        self.make, self.observe = make, observe
        self.all: list[Any] = []
        self.dtype = states.dtype

    def reset(self, seeds):
        while len(self.all) < len(seeds):
            self.all.append(self.make())
        begun = [
            world.reset(seed=int(seed))[0] for world, seed in zip(self.all, seeds, strict=False)
        ]
        self.states = np.stack(begun)
        self.over = np.zeros(len(seeds), bool)
        return self._seen(), np.zeros(len(seeds), np.float32), self.over.copy()

    def step(self, actions):
        rewards = np.zeros(len(actions), np.float32)
        for number, action in enumerate(np.asarray(actions)):
            if not self.over[number]:
                state, rewards[number], ended, cut, _ = self.all[number].step(action)
                self.states[number], self.over[number] = state, ended or cut
        return self._seen(), rewards, self.over.copy()

    def _seen(self):
        return np.asarray(self.observe(self.states), self.dtype)
