"""The smallest task and data that the core can be tested with."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from genax.core import Loss, Phase, Stage, Task, per_example
from genax.core.step import init_state

SIZE = 4


class Line(nn.Module):
    """One layer."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(x)[..., 0]


class Networks(nn.Module):
    """One network."""

    line: nn.Module


def noisy_error(nets, batch):
    """Squared error on inputs with noise of their own; the larger of x's entries count more."""
    noise = per_example(jax.random.normal, nets, batch, (SIZE,))
    error = nets.line(batch["x"] + 0.1 * noise) - batch["y"]
    weights = 1.0 + jnp.abs(batch["x"][:, 0])
    return Loss(error**2, weights, aux={"absolute": jnp.abs(error)})


def line_task(*phases: Phase, **options) -> Task:
    """A task of one network; by default with one phase, "fit"."""
    phases = phases or (Phase("fit", noisy_error, ("line",), optax.sgd(0.1)),)
    return Task(Networks(Line()), [Stage(phases)], **options)


ELEMENT = {
    "x": jax.ShapeDtypeStruct((SIZE,), np.float32),
    "y": jax.ShapeDtypeStruct((), np.float32),
}


def line_state(task: Task, seed: int = 0):
    """Its state before the first step."""
    return init_state(task, seed, ELEMENT)


class Points:
    """Evaluation data: `count` points."""

    element = ELEMENT

    def __init__(self, count: int):
        self.x = np.random.default_rng(0).standard_normal((count, SIZE)).astype(np.float32)

    def fingerprint(self):
        """A text that changes with the number of points."""
        return str(len(self.x))

    def evaluate(self, batch_size, shard):
        """Every point once; what fills up the last batch is infinite and must not count."""
        for start in range(0, len(self.x), batch_size):
            x = self.x[start : start + batch_size]
            missing = batch_size - len(x)
            mask = np.r_[np.ones(len(x)), np.zeros(missing)].astype(np.float32)
            x = np.concatenate([x, np.full((missing, SIZE), np.inf, np.float32)])
            yield {"x": x, "y": np.ones(batch_size, np.float32), "mask": mask, "id": mask}
