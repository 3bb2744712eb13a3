"""Decision Transformers: the loss of their actions, and what they achieve when they act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

from genax.core import Evaluator, Loss
from genax.core.task import Batch
from genax.transformer.cross_entropy import cross_entropy


class Networks(nn.Module):
    """agent: (returns, states, actions, timesteps, mask) -> states, actions, returns."""

    agent: nn.Module


def action_loss(nets: Any, batch: Batch, return_scale: float, train: bool = True) -> Loss:
    """-log p(action | returns, states, actions before it), in nats: Chen et al. 2021, section 3.

    batch: as `TrajectoryData` gives it, actions int32 [b, k] among those of the agent. Values are
    [b, k], without those before an episode's start. return_scale: returns are divided by it.
    Metric: accuracy. train: whether dropout is on.
    """
    logits = _act(nets.agent, batch, return_scale, train)
    real = batch["real"].astype(jnp.float32)
    hits = (logits.argmax(-1) == batch["actions"]).astype(jnp.float32)
    return Loss(cross_entropy(logits, batch["actions"]), real, {"accuracy": Loss(hits, real)})


def _act(agent, batch, return_scale, train=False):
    """Scores of the actions, [b, k, a], float32."""
    taken = jax.nn.one_hot(batch["actions"], agent.action_size)
    returns, states = batch["returns"] / return_scale, batch["states"]
    _, actions, _ = agent(returns, states, taken, batch["timesteps"], batch["real"], train)
    return actions.astype(jnp.float32)


def achieved_returns(
    environment: str,
    targets: Sequence[float],
    episodes: int,
    context: int,
    max_steps: int,
    scale: Sequence[float],
    return_scale: float,
) -> Evaluator:
    """Mean return of episodes in which the agent acts, by the return it is asked for.

    Scores: "return_<target>" for each target; "rank_correlation" between asked and achieved
    (Spearman's; 0 where all achieve the same). episodes: for each target. scale, return_scale: as
    in training.
    """
    count = len(targets) * episodes

    def play(nets: Any, batch: Batch) -> Mapping[str, Any]:
        index, (agent, variables) = batch["index"], nets.agent.unbind()
        target = jnp.asarray(targets, jnp.float32)[index % len(targets)]
        world = _World(environment, np.asarray(scale, np.float32), max_steps)
        shapes = (
            jax.ShapeDtypeStruct((len(index), len(scale)), jnp.float32),
            jax.ShapeDtypeStruct((len(index),), jnp.float32),
        )
        state, _ = io_callback(world.reset, shapes, index // len(targets), ordered=True)

        def step(carry, number):
            history, wanted, state = carry
            new = {
                "returns": wanted[:, None],
                "states": state,
                "actions": jnp.zeros(len(index), jnp.int32),
                "timesteps": jnp.full(len(index), number),
                "real": jnp.ones(len(index), bool),
            }
            history = {
                name: jnp.concatenate([old[:, 1:], new[name][:, None].astype(old.dtype)], axis=1)
                for name, old in history.items()
            }
            module = lambda *args: agent.apply(variables, *args)  # noqa: E731
            module.action_size = agent.action_size  # type: ignore[attr-defined]
            action = _act(module, history, return_scale)[:, -1].argmax(-1).astype(jnp.int32)
            history["actions"] = history["actions"].at[:, -1].set(action)
            state, reward = io_callback(world.step, shapes, action, ordered=True)
            return (history, wanted - reward, state), reward

        b, k = len(index), context
        history = {
            "returns": jnp.zeros((b, k, 1)),
            "states": jnp.zeros((b, k, len(scale))),
            "actions": jnp.zeros((b, k), jnp.int32),
            "timesteps": jnp.zeros((b, k), jnp.int32),
            "real": jnp.zeros((b, k), bool),
        }
        _, rewards = jax.lax.scan(step, (history, target, state), jnp.arange(max_steps))
        return {"asked": target, "achieved": rewards.sum(0)}

    def summarize(rows: Mapping[str, np.ndarray]) -> dict[str, float]:
        from scipy.stats import spearmanr

        found = {
            f"return_{target:g}": float(rows["achieved"][rows["asked"] == target].mean())
            for target in targets
        }
        same = np.ptp(rows["achieved"]) == 0
        rank = 0.0 if same else spearmanr(rows["asked"], rows["achieved"]).statistic
        return found | {"rank_correlation": float(rank)}

    return Evaluator(play, summarize, examples=count)


class _World:
    """Environments side by side; those that are over give no more reward."""

    def __init__(self, name: str, scale: np.ndarray, max_steps: int):
        self.name, self.scale, self.max_steps = name, scale, max_steps

    def reset(self, seeds):
        from genax.data.trajectories import make_environment

        self.all = [make_environment(self.name) for _ in seeds]
        self.over = np.zeros(len(seeds), bool)
        # Seeds far from those that data is collected with.
        begun = [
            world.reset(seed=10**9 + int(seed)) for world, seed in zip(self.all, seeds, strict=True)
        ]
        self.states = np.stack([state for state, _ in begun]).astype(np.float32)
        return self.states / self.scale, np.zeros(len(seeds), np.float32)

    def step(self, actions):
        rewards = np.zeros(len(actions), np.float32)
        for number, action in enumerate(np.asarray(actions)):
            if not self.over[number]:
                state, rewards[number], ended, cut, _ = self.all[number].step(int(action))
                self.states[number], self.over[number] = state, ended or cut
        return self.states / self.scale, rewards
