"""Data that needs no file: batch n is a function of n."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from genax.core.data import Shard


@dataclass(frozen=True, eq=False)
class Synthetic:
    """element: shapes of an example. draw: (number, size) -> arrays, for one process."""

    element: Mapping[str, jax.ShapeDtypeStruct]
    draw: Callable[[int, int], Mapping[str, np.ndarray]]

    def fingerprint(self) -> str:
        return "synthetic"

    def train(self, batch_size: int, seed: int, shard: Shard) -> Batches:
        return Batches(self, batch_size)

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Mapping]:
        yield {**self.draw(0, batch_size), "mask": np.ones(batch_size, np.float32)}


class Batches:
    """Endless batches; the position is a number of examples."""

    def __init__(self, data: Synthetic, size: int):
        self.data, self.size, self.examples = data, size, 0

    def __next__(self) -> Mapping[str, np.ndarray]:
        ids = np.arange(self.size) + self.examples
        batch = self.data.draw(self.examples // self.size, self.size)
        self.examples += self.size
        return {**batch, "id": ids}

    def get_state(self) -> Any:
        return {"examples": self.examples}

    def set_state(self, state: Any) -> None:
        self.examples = state["examples"]
