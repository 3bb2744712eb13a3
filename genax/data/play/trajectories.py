"""Episodes as training data: windows of returns, states and actions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import jax
import numpy as np

from genax.core.data import BatchIterator, Shard
from genax.core.errors import GenaxError
from genax.data import pipeline
from genax.data.pipeline import Batch
from genax.data.play.episodes import Episode

View = Callable[[np.ndarray], np.ndarray]
# Of a state's standard deviation, as in the code of Chen et al. 2021: a constant state stays 0.
_LEAST = 1e-6


class Episodes(Protocol):
    """A source of episodes."""

    @property
    def name(self) -> str:
        """What messages call them."""
        ...

    def load(self) -> list[Episode]:
        """All of them, always the same."""
        ...


@dataclass(frozen=True)
class TrajectoryData:
    """Windows that end at any step of an episode; what is before the episode's start is zeros.

    "returns" float32 [context, 1] (rewards still to come), "states" [context + before, ...],
    "actions" [context, ...], "timesteps" int32 [context], "real" bool [context].

    states, actions: one of each, as the network gets them. view: states [n, ...] of the
    environment as the network gets them; None standardises them by the data's mean and deviation.
    before: further states ahead of the window, for networks that stack pictures.
    max_steps: of an episode; longer ones are refused.
    """

    source: Episodes
    states: jax.ShapeDtypeStruct
    actions: jax.ShapeDtypeStruct
    context: int
    max_steps: int
    view: View | None = None
    before: int = 0

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of one window; loads nothing."""
        k = self.context
        shapes = {
            "returns": ((k, 1), np.float32),
            "states": ((self.before + k, *self.states.shape), self.states.dtype),
            "actions": ((k, *self.actions.shape), self.actions.dtype),
            "timesteps": ((k,), np.int32),
            "real": ((k,), np.bool_),
        }
        return {name: jax.ShapeDtypeStruct(*shape) for name, shape in shapes.items()}

    def observe(self, states: np.ndarray) -> np.ndarray:
        """States [n, ...] of the environment as the network gets them."""
        if self.view is not None:
            return self.view(states).astype(self.states.dtype, copy=False)
        mean, deviation = self._statistics
        return ((states - mean) / deviation).astype(self.states.dtype)

    @cached_property
    def _raw(self) -> list[Episode]:
        episodes = self.source.load()
        if not episodes:
            raise GenaxError(f"{self.source.name} holds no episodes with a step.")
        longest = max(len(episode.actions) for episode in episodes)
        if longest > self.max_steps:
            raise GenaxError(
                f"an episode of {self.source.name} has {longest} steps, more than "
                f"max_steps={self.max_steps}; raise it."
            )
        return episodes

    @cached_property
    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        states = np.concatenate([episode.states for episode in self._raw]).astype(np.float64)
        return states.mean(0), states.std(0) + _LEAST

    @cached_property
    def _seen(self) -> list[Episode]:
        """Episodes as the network gets them, with returns in place of rewards."""
        episodes = [
            Episode(
                self.observe(states),
                actions.astype(self.actions.dtype, copy=False),
                rewards[::-1].cumsum(dtype=np.float64)[::-1].astype(np.float32),
            )
            for states, actions, rewards in self._raw
        ]
        for name, spec, array in zip(
            ("states", "actions"), (self.states, self.actions), episodes[0][:2], strict=True
        ):
            if array.shape[1:] != spec.shape:
                raise GenaxError(
                    f"{name} of {self.source.name} have the shape {array.shape[1:]}, not "
                    f"{spec.shape}."
                )
        return episodes

    @cached_property
    def _steps(self) -> np.ndarray:
        """Episode and step of each record, int [n, 2]."""
        lengths = [len(episode.actions) for episode in self._seen]
        episodes = np.repeat(np.arange(len(lengths)), lengths)
        return np.stack([episodes, np.concatenate([np.arange(n) for n in lengths])], axis=1)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over all episodes, as the network gets them, and the windows' size."""
        digest = hashlib.sha256(repr((self.context, self.before)).encode())
        for episode in self._seen:
            for array in episode:
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless shuffled batches."""
        return pipeline.train_batches(self._read, len(self._steps), batch_size, seed, shard)

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Mapping[str, np.ndarray]]:
        """Every window once, with "mask"."""
        return pipeline.evaluation_batches(self._read, len(self._steps), batch_size, shard)

    def _read(self, ids: np.ndarray) -> Batch:
        batch = {
            name: np.zeros((len(ids), *spec.shape), spec.dtype)
            for name, spec in self.element.items()
        }
        for row, (number, last) in enumerate(self._steps[ids]):
            states, actions, returns = self._seen[number]
            first = max(0, last + 1 - self.context)
            place, steps = slice(first - last - 1, None), slice(first, last + 1)
            batch["returns"][row, place, 0] = returns[steps]
            batch["actions"][row, place] = actions[steps]
            batch["timesteps"][row, place] = np.arange(first, last + 1)
            batch["real"][row, place] = True
            first = max(0, first - self.before)
            batch["states"][row, first - last - 1 :] = states[first : last + 1]
        return batch
