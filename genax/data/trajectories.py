"""Episodes of gymnasium environments as training data: windows of returns, states and actions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np

from genax.core.data import BatchIterator, Shard
from genax.core.errors import GenaxError
from genax.data import pipeline
from genax.data.pipeline import Batch

Policy = Callable[[np.ndarray], int]


class Episode(NamedTuple):
    """States [t, s], actions int [t], rewards [t]."""

    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray


def make_environment(name: str) -> Any:
    """A gymnasium environment. Raises GenaxError where gymnasium or the environment is missing."""
    try:
        import gymnasium
    except ImportError as error:
        raise GenaxError(
            'environments need gymnasium: python -m pip install -e ".[control]".'
        ) from error
    try:
        return gymnasium.make(name)
    except gymnasium.error.Error as error:
        raise GenaxError(f"gymnasium has no environment {name!r} here ({error}).") from error


def collect(name: str, policy: Policy, noise: float, episodes: int, seed: int) -> list[Episode]:
    """Play so many episodes. noise: probability with which a step's action is drawn at random."""
    environment, rng = make_environment(name), np.random.default_rng(seed)
    found = []
    for number in range(episodes):
        state, _ = environment.reset(seed=seed + number)
        states, actions, rewards, over = [], [], [], False
        while not over:
            drawn = rng.random() < noise
            action = rng.integers(environment.action_space.n) if drawn else policy(state)
            states.append(state)
            actions.append(action)
            state, reward, ended, cut, _ = environment.step(int(action))
            rewards.append(reward)
            over = ended or cut
        found.append(Episode(np.array(states), np.array(actions), np.array(rewards)))
    environment.close()
    return found


@dataclass(frozen=True)
class TrajectoryData:
    """Windows that end at any step of episodes played by a policy with several amounts of noise.

    "returns" float32 [context, 1] (rewards still to come), "states" [context, s], "actions" int32
    [context], "timesteps" int32 [context], "real" bool [context]; what is before an episode's
    start is zeros. noises: `episodes` are played for each. scale: states are divided by it.
    max_steps: of an episode; longer ones are refused.
    """

    environment: str
    policy: Policy
    noises: Sequence[float]
    episodes: int
    context: int
    scale: tuple[float, ...]
    max_steps: int
    seed: int = 0

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of one window; plays nothing."""
        k = self.context
        shapes = {
            "returns": ((k, 1), np.float32),
            "states": ((k, len(self.scale)), np.float32),
            "actions": ((k,), np.int32),
            "timesteps": ((k,), np.int32),
            "real": ((k,), np.bool_),
        }
        return {name: jax.ShapeDtypeStruct(*shape) for name, shape in shapes.items()}

    @cached_property
    def _played(self) -> list[Episode]:
        seeds = range(self.seed, self.seed + 10**6 * len(self.noises), 10**6)
        played = [
            episode
            for noise, seed in zip(self.noises, seeds, strict=True)
            for episode in collect(self.environment, self.policy, noise, self.episodes, seed)
        ]
        longest = max(len(episode.actions) for episode in played)
        if longest > self.max_steps:
            raise GenaxError(
                f"an episode of {self.environment} has {longest} steps, more than "
                f"max_steps={self.max_steps}; raise it."
            )
        return played

    @cached_property
    def _steps(self) -> np.ndarray:
        """Episode and step of each record, int [n, 2]."""
        lengths = [len(episode.actions) for episode in self._played]
        episodes = np.repeat(np.arange(len(lengths)), lengths)
        return np.stack([episodes, np.concatenate([np.arange(n) for n in lengths])], axis=1)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over all episodes and what makes windows of them."""
        digest = hashlib.sha256(repr((self.environment, self.context, self.scale)).encode())
        for episode in self._played:
            for array in episode:
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def train(self, batch_size: int, seed: int, shard: Shard, workdir: Any = None) -> BatchIterator:
        """Endless shuffled batches."""
        return pipeline.train_batches(self._read, len(self._steps), batch_size, seed, shard)

    def evaluate(
        self, batch_size: int, shard: Shard, workdir: Any = None
    ) -> Iterator[Mapping[str, np.ndarray]]:
        """Every window once, with "mask"."""
        return pipeline.evaluation_batches(self._read, len(self._steps), batch_size, shard)

    def _read(self, ids: np.ndarray) -> Batch:
        batch = {
            name: np.zeros((len(ids), *spec.shape), spec.dtype)
            for name, spec in self.element.items()
        }
        for row, (number, last) in enumerate(self._steps[ids]):
            states, actions, rewards = self._played[number]
            first = max(0, last + 1 - self.context)
            place, steps = slice(self.context - (last + 1 - first), None), slice(first, last + 1)
            batch["returns"][row, place, 0] = rewards[::-1].cumsum()[::-1][steps]
            batch["states"][row, place] = states[steps] / self.scale
            batch["actions"][row, place] = actions[steps]
            batch["timesteps"][row, place] = np.arange(first, last + 1)
            batch["real"][row, place] = True
        return batch
