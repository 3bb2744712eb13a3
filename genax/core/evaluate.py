"""Scores and samples of networks, by default with their averaged parameters."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from genax.core import ema
from genax.core.data import Data, Shard
from genax.core.devices import Strategy
from genax.core.errors import GenaxError
from genax.core.gradients import keys_of, parts_of, sums_of
from genax.core.task import Evaluator, Loss, Sampler, Task, TrainState


def variables(state: TrainState, averaged: bool = True) -> dict[str, Any]:
    """Linen variables of a state; averaged: with averages in place of what is averaged."""
    found = {"params": state.params, **state.collections}
    return ema.averaged(found, state.ema) if averaged else found


def sample(
    task: Task,
    sampler: Sampler,
    variables: Mapping,
    num: int,
    seed: int = 0,
    condition: Mapping[str, Any] | None = None,
    workdir: Any = None,
) -> Any:
    """`num` samples as numpy arrays; sample i is the same whatever `num` is.

    condition: in place of the sampler's own, which may read workdir.
    """
    batch = {"index": np.arange(num)} | dict(condition or {})
    if condition is None and sampler.condition is not None:
        batch |= sampler.condition(num, workdir)
    return _fetch(_draw(task, sampler.function, variables, jax.random.key(seed), batch))


def write_sample(rendered: Any, path: epath.Path) -> epath.Path:
    """Write a picture (.png) or a text (.txt); the path is given without its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(rendered, str):
        path = path.with_name(path.name + ".txt")
        path.write_text(rendered)
    else:
        path = path.with_name(path.name + ".png")
        with path.open("wb") as file:
            rendered.save(file, format="PNG")
    return path


def evaluate(
    task: Task,
    variables: Mapping,
    data: Data | None,
    batch_size: int,
    workdir: Any,
    strategy: Strategy | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Scores "<evaluator>" and "<evaluator>/<aux name>" over all evaluation data.

    data: None if no evaluator reads any; an evaluator then gets batch["index"] alone.
    batch_size: global. Noise belongs to an example, so it changes the scores by rounding only.
    strategy: places the batches; None on one device.
    Raises GenaxError for a score of no example.
    """
    scores: dict[str, float] = {}
    if not task.evaluators:
        return scores
    shard = Shard() if strategy is None else strategy.part
    local = batch_size // shard.count
    place = (lambda batch: batch) if strategy is None else strategy.spread
    batches = iter(()) if data is None else iter(data.evaluate(batch_size, shard, workdir))
    runs = {
        name: _Run(task, evaluator, jax.random.key(seed))
        for name, evaluator in task.evaluators.items()
    }
    every = {"mask": np.ones(local, np.float32)}
    counted, batch = place(every)["mask"], every
    for first in itertools.count(0, batch_size):
        found = next(batches, None)
        if data is not None and found is None and not first:
            raise GenaxError("the evaluation data has no example, so there is nothing to score.")
        active = [run for run in runs.values() if run.wants(first, found is not None)]
        if not active:
            break
        # Beyond the data, a function that makes nothing of it gets the last batch again.
        if found is not None:
            batch = every | {name: array for name, array in found.items() if name != "id"}
        index = (first + shard.number * local + np.arange(local)).astype(np.int32)
        with contextlib.nullcontext() if strategy is None else strategy.traced():
            placed = place({**batch, "index": index})
            for run in active:
                run.add(variables, placed, counted)
    for name, run in runs.items():
        scores |= run.scores(name, workdir)
    return scores


class _Run:
    """One evaluator on its way through the data."""

    def __init__(self, task: Task, evaluator: Evaluator, key: Any):
        self.task, self.evaluator, self.key = task, evaluator, key
        self.sums: dict[str, tuple[float, float]] = {}
        self.parts: Sequence[str] = ()
        self.rows: list[Any] = []
        self.reads = True

    def wants(self, seen: int, there: bool) -> bool:
        """Whether it takes a batch after `seen` examples. there: the data has one more."""
        if self.evaluator.examples is None:
            return there or not seen
        return seen < self.evaluator.examples and (there or not seen or not self.reads)

    def add(self, variables, batch, counted) -> None:
        """Work through a batch. counted: the mask of a batch whose data is not read."""
        arguments = (self.task, self.evaluator, variables, self.key)
        if not self.parts and not self.rows and self.evaluator.examples is not None:
            self.reads = _reads(_evaluate.trace(*arguments, batch).jaxpr, batch)
        if not self.reads:
            batch = {**batch, "mask": counted}
        result, mask = _fetch(_evaluate(*arguments, batch))
        if self.evaluator.summarize is None:
            parts, sums = result
            self.parts = list(parts)
            for name, (total, weight) in sums.items():
                totals, weights = self.sums.get(name, (0.0, 0.0))
                self.sums[name] = (totals + float(total), weights + float(weight))
        else:
            self.rows.append(jax.tree.map(lambda x: x[mask > 0], result))

    def scores(self, name: str, workdir: Any) -> dict[str, float]:
        if self.evaluator.summarize is not None:
            rows = jax.tree.map(lambda *parts: np.concatenate(parts), *self.rows)
            if not len(jax.tree.leaves(rows)[0]):
                raise GenaxError(
                    f"evaluator {name!r}: every example of the evaluation data is padding."
                )
            found = self.evaluator.summarize(rows, workdir)
            return {f"{name}/{score}": float(value) for score, value in found.items()}
        for part in self.parts:
            if not self.sums[part][1]:
                raise GenaxError(
                    f"evaluator {name!r}: no element of the evaluation data counts for {part!r}; "
                    "all of them are padding or masked."
                )
        means = {
            score: total / weight if weight else math.nan
            for score, (total, weight) in self.sums.items()
        }
        whole = sum(means[part] for part in self.parts)
        means.pop("loss", None)
        return {name: whole} | {f"{name}/{score}": mean for score, mean in means.items()}


def _apply(task: Task, function, variables, key, batch):
    return nn.apply(function, task.networks)(variables, batch, rngs=keys_of(task, key, 0))


_draw = jax.jit(_apply, static_argnums=(0, 1))


@partial(jax.jit, static_argnums=(0, 1))
def _evaluate(task: Task, evaluator: Evaluator, variables, key, batch):
    batch = dict(batch)
    mask = batch.pop("mask")
    if evaluator.examples is not None:
        mask = mask * (batch["index"] < evaluator.examples)
    result = _apply(task, evaluator.function, variables, key, batch)
    if evaluator.summarize is None:
        parts = {part: _masked(loss, mask) for part, loss in parts_of(result).items()}
        sums = sums_of(parts["loss"] if isinstance(result, Loss) else parts)
        result = {part: sums[part] for part in parts}, sums
    return result, mask


def _reads(program: Any, batch: Mapping) -> bool:
    """Whether a program, whose last argument is the batch, makes anything of its data."""
    program = program.jaxpr
    used = {id(value) for equation in program.eqns for value in equation.invars}
    used |= {id(value) for value in program.outvars}
    inputs = zip(sorted(batch), program.invars[-len(batch) :], strict=True)
    return any(id(value) in used for name, value in inputs if name not in ("index", "mask"))


def _fetch(tree: Any) -> Any:
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def _masked(loss: Loss, mask: jax.Array) -> Loss:
    def weights(values, weights):
        shaped = mask.reshape(mask.shape + (1,) * (values.ndim - 1))
        weights = jnp.ones_like(values) if weights is None else weights
        # What fills up a batch may be anything, and infinity times zero is NaN.
        return jnp.where(shaped > 0, shaped * weights, 0.0)

    aux = {
        name: _masked(value if isinstance(value, Loss) else Loss(value), mask)
        for name, value in loss.aux.items()
    }
    return Loss(loss.values, weights(loss.values, loss.weights), aux)
