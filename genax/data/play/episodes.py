"""Episodes: played here by a rule, or read from sets of TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from genax.core.errors import GenaxError
from genax.data.play.environments import check_environment, make_environment
from genax.data.sets.tfds_sets import folder_of, open_split, tfds_builder

Policy = Callable[[np.ndarray], Any]


class Episode(NamedTuple):
    """States [t, ...], actions int [t] or float [t, a], rewards [t]."""

    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray


def collect(name: str, policy: Policy, noise: float, episodes: int, seed: int) -> list[Episode]:
    """Play so many episodes. noise: probability with which a step's action is drawn at random."""
    environment, rng = make_environment(name), np.random.default_rng(seed)
    space = environment.action_space
    found = []
    for number in range(episodes):
        state, _ = environment.reset(seed=seed + number)
        states, actions, rewards, over = [], [], [], False
        while not over:
            if rng.random() >= noise:
                action = policy(state)
            elif hasattr(space, "n"):
                action = int(rng.integers(space.n))
            else:
                action = rng.uniform(space.low, space.high).astype(np.float32)
            states.append(state)
            actions.append(action)
            state, reward, ended, cut, _ = environment.step(action)
            rewards.append(reward)
            over = ended or cut
        found.append(Episode(np.array(states), np.array(actions), np.array(rewards)))
    environment.close()
    return found


@dataclass(frozen=True)
class Rollouts:
    """Episodes of an environment, played by a policy; `episodes` for each of several noises."""

    environment: str
    policy: Policy
    noises: Sequence[float]
    episodes: int
    seed: int = 0

    @property
    def name(self) -> str:
        """What messages call them."""
        return f"episodes of {self.environment}"

    def load(self) -> list[Episode]:
        """Play them. Raises GenaxError if the environment is missing."""
        seeds = range(self.seed, self.seed + 10**6 * len(self.noises), 10**6)
        return [
            episode
            for noise, seed in zip(self.noises, seeds, strict=True)
            for episode in collect(self.environment, self.policy, noise, self.episodes, seed)
        ]


@dataclass(frozen=True)
class TfdsEpisodes:
    """Episodes of "tfds:NAME" in the layout RLDS (Ramos et al. 2021): D4RL's, RL Unplugged's.

    An example is an episode, "steps" its steps; of the last step only the observation is real.
    A set is prepared on a machine with TensorFlow, and read without it.

    limit: take whole episodes, evenly spread over the set, until there are so many steps.
    clip: rewards are cut off to [-1, 1]. environment: where the agent will act, "" for nowhere;
    checked before any training, since evaluation comes last.
    """

    name: str
    action_size: int
    limit: int | None = None
    clip: bool = False
    environment: str = ""
    split: str = "train"

    def load(self) -> list[Episode]:
        """Read them. Raises GenaxError if the set or the environment is missing."""
        if self.environment:
            check_environment(self.environment, self.action_size)
        builder = self._builder()
        source = open_split(builder, self.name, self.split)
        found, steps = [], 0
        for number in _spread(len(source)):
            [example] = source.__getitems__([int(number)])
            try:
                episode = self._episode(example["steps"])
            except KeyError as error:
                raise GenaxError(
                    f"{self.name} in {folder_of(builder)} holds no episodes of steps with "
                    f"observation, action and reward (missing: {error}); choose another set."
                ) from error
            if episode is not None:
                found.append(episode)
                steps += len(episode.rewards)
            if self.limit is not None and steps >= self.limit:
                break
        return found

    def _builder(self) -> Any:
        try:
            return tfds_builder(self.name)
        except GenaxError as error:
            # Without TensorFlow, TFDS does not know sets of episodes that are not prepared.
            raise GenaxError(
                f"no set of episodes {self.name!r} is prepared here; on a machine with TensorFlow "
                f"(python -m pip install 'genax[tfds]'), run: genax data prepare {self.name}"
            ) from error

    def _episode(self, steps) -> Episode | None:
        kept = [step for step in steps if not step["is_last"]]
        if not kept:
            return None
        rewards = np.array([step["reward"] for step in kept])
        return Episode(
            np.stack([_plain(step["observation"]) for step in kept]),
            np.stack([step["action"] for step in kept]),
            np.clip(rewards, -1, 1) if self.clip else rewards,
        )


def _plain(observation: np.ndarray) -> np.ndarray:
    """A state as it is; a grey picture [h, w, 1] as [h, w]."""
    return observation[..., 0] if observation.ndim == 3 else observation


def _spread(count: int) -> np.ndarray:
    """0, ..., count - 1 so ordered that any first few are spread evenly: by golden sections."""
    return np.argsort(np.arange(count) * 0.6180339887498949 % 1.0, kind="stable")
