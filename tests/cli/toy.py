"""Toy regression: a small experiment with everything that a run has to keep.

Noise drawn per element, a collection, averages, two stages if asked for, and data that can be made
to fail.

    genax train tests/cli/toy.py --workdir runs/toy
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from genax.core import (
    Evaluator,
    Experiment,
    Loss,
    Phase,
    Sampler,
    Stage,
    Task,
    per_example,
    read,
    write,
)
from genax.settings import Variant

DEFAULTS = {
    "steps": 40,
    "batch_size": 16,
    "checkpoint_every": 10,
    "log_every": 1,
    "sample_every": 0,
    "num_samples": 4,
    "eval_batch_size": 16,
    "width": 16,
    "learning_rate": 1e-2,
    # Steps of a first stage with another optimizer; 0 is a single stage.
    "first_stage": 0,
    # See `Points`.
    "data": {"records": 96},
    "nan_record": -1,
    "fails_at": -1,
    "fails_in": -1,
    "table": "",
}
VARIANTS = {
    "cpu": Variant("two layers on random points"),
    "wide": Variant("the same, four times as wide", {"width": 64}),
}
INPUTS = 8


@dataclass(frozen=True)
class Points:
    """Records x in R^8 with y = sum(x), read in order, over and over.

    table: a .npy file with the records, or "" to make them. nan_record: whose x is NaN.
    fails_at: number of the global batch that can't be read; fails_in: in which part, -1 for all.
    """

    records: int
    table: str = ""
    nan_record: int = -1
    fails_at: int = -1
    fails_in: int = -1

    @property
    def element(self):
        """Shapes of one record."""
        return {
            "x": jax.ShapeDtypeStruct((INPUTS,), np.float32),
            "y": jax.ShapeDtypeStruct((), np.float32),
        }

    def load(self):
        """The records: float32 [records, 8]."""
        if self.table:
            return np.load(self.table)
        x = np.random.default_rng(0).standard_normal((self.records, INPUTS)).astype(np.float32)
        if self.nan_record >= 0:
            x[self.nan_record] = np.nan
        return x

    def fingerprint(self):
        """Of the records alone."""
        content = Path(self.table).read_bytes() if self.table else b""
        return hashlib.sha256(f"{self.records}".encode() + content).hexdigest()

    def train(self, batch_size, seed, shard):
        """Batches from the first record on."""
        return Batches(self, batch_size, shard)

    def evaluate(self, batch_size, shard):
        """Every record once."""
        x, local = self.load(), batch_size // shard.count
        # Also where the rest of the records is another process's: all give as many batches.
        for first in range(0, len(x), batch_size):
            start = first + shard.number * local
            numbers = np.arange(start, start + local)
            ids = np.minimum(numbers, len(x) - 1)
            mask = (numbers < len(x)).astype(np.float32)
            yield {"x": x[ids], "y": x[ids].sum(-1), "mask": mask, "id": ids}


class Batches:
    """The iterator; its position is the number of examples given out by all processes."""

    def __init__(self, data, batch_size, shard):
        self.data, self.x, self.taken = data, data.load(), 0
        self.size, self.shard = batch_size, shard

    def __iter__(self):
        return self

    def __next__(self):
        number = self.taken // self.size
        if number == self.data.fails_at and self.data.fails_in in (-1, self.shard.number):
            raise OSError("the disk with the points went away")
        local = self.size // self.shard.count
        start = self.taken + self.shard.number * local
        ids = np.arange(start, start + local) % len(self.x)
        self.taken += self.size
        return {"x": self.x[ids], "y": self.x[ids].sum(-1), "id": ids}

    def get_state(self):
        """Return the position."""
        return {"examples": self.taken}

    def set_state(self, state):
        """Continue from there."""
        self.taken = state["examples"]


class Regressor(nn.Module):
    """Two layers."""

    width: int

    @nn.compact
    def __call__(self, x):
        hidden = nn.tanh(nn.Dense(self.width)(x))
        return nn.Dense(1)(hidden)[..., 0]


class Networks(nn.Module):
    """The network of this task."""

    regressor: nn.Module


def squared_error(nets, batch):
    """Squared error on inputs with noise; counts its calls in a collection."""
    noise = per_example(jax.random.normal, nets, batch, (INPUTS,))
    calls = read(nets, "statistics", "calls", lambda: jnp.zeros(()))
    write(nets, "statistics", "calls", calls + 1)
    error = nets.regressor(batch["x"] + 0.1 * noise) - batch["y"]
    return Loss(error**2, aux={"absolute": jnp.abs(error)})


def draw(nets, batch):
    """Outputs for inputs of pure noise: one number a sample."""
    return nets.regressor(per_example(jax.random.normal, nets, batch, (INPUTS,)))


def as_text(samples, batch, workdir) -> str:
    """Samples as lines of text."""
    return "\n".join(f"{value:.6f}" for value in samples)


def build(config):
    """The experiment that the settings describe."""
    data = Points(
        config.data.records, config.table, config.nan_record, config.fails_at, config.fails_in
    )
    last = Stage(
        [
            Phase("fit", squared_error, ("regressor",), optax.adam(config.learning_rate)),
            Phase("polish", squared_error, ("regressor/Dense_1",), optax.sgd(1e-3), every=2),
        ]
    )
    warm = Phase("warm", squared_error, ("regressor",), optax.sgd(1e-2, 0.9))
    task = Task(
        Networks(Regressor(config.width)),
        [Stage([warm], config.first_stage), last] if config.first_stage else [last],
        samplers={"outputs": Sampler(draw, as_text)},
        evaluators={"error": Evaluator(squared_error)},
        ema={"regressor": 0.9},
    )
    return Experiment(task, data, Points(40))
