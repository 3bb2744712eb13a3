"""Scores of networks over evaluation data."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genax.core.data import Data, Shard, global_index, numeric, open_data
from genax.core.devices import Strategy
from genax.core.errors import GenaxError
from genax.core.experiment import Experiment
from genax.core.gradients import check_loss, parts_of, sums_of
from genax.core.task import Evaluator, Loss, Task
from genax.running.mistakes import check_batch, check_data, check_rows, told
from genax.running.sampling import apply_networks, moment_of, to_host


class Scores(dict[str, float]):
    """Scores by "<evaluator>" and "<evaluator>/<score>".

    said: what each evaluator says of its scores, by its name.
    """

    def __init__(
        self,
        scores: Mapping[str, float] = MappingProxyType({}),
        said: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ):
        super().__init__(scores)
        self.said = said


def evaluation_data(experiment: Experiment) -> list[Data]:
    """The data sets that the evaluators of an experiment read, each once.

    Raises GenaxError for an evaluator that has neither data nor a number of examples.
    """
    found: dict[int, Data] = {}
    for name, evaluator in experiment.task.evaluators.items():
        data = experiment.evaluation if evaluator.data is None else evaluator.data
        if data is not None:
            check_data(
                f"the data of evaluator {name!r}", data, "element", "fingerprint", "evaluate"
            )
            found[id(data)] = data
        elif evaluator.examples is None:
            raise GenaxError(
                f"evaluator {name!r} has no data, nor has the experiment; give it data, or the "
                "number of examples that it draws."
            )
    return list(found.values())


def evaluate(
    task: Task,
    variables: Mapping,
    data: Data | None,
    batch_size: int,
    workdir: Any,
    strategy: Strategy | None = None,
    seed: int = 0,
    step: int | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Scores:
    """Scores "<evaluator>" and "<evaluator>/<aux name>" over all evaluation data.

    data: what evaluators read that have none of their own; None if there is no such evaluator. A
    function without data gets batch["index"] alone.
    batch_size: global. Noise belongs to an example, so it changes the scores by rounding only.
    strategy: places batches and given arrays; None is one device.
    step: steps taken by the networks, for "stage" and "step" in the batch: see
      `genax.running.sampling.sampling_batch`.
    progress: called after each batch with its size, such as `tqdm.update`.
    Raises GenaxError for a score of no example.
    """
    put = jax.device_put if strategy is None else strategy.copy
    # By identity, as two evaluators may share arrays or data.
    placed: dict[int, Any] = {}
    sources: dict[int, tuple[Data | None, list[_Reader]]] = {}
    readers: dict[str, _Reader] = {}
    for name, evaluator in task.evaluators.items():
        given = evaluator.given
        if given is not None and id(given) not in placed:
            placed[id(given)] = put(given(workdir) if callable(given) else given)
        reader = _Reader(task, evaluator, jax.random.key(seed), placed.get(id(given)), step)
        source = data if evaluator.data is None else evaluator.data
        sources.setdefault(id(source), (source, []))[1].append(reader)
        readers[name] = reader
    for source, group in sources.values():
        opened = None if source is None else open_data(source, workdir)
        _work_through(opened, group, variables, batch_size, strategy, progress)
    scores: dict[str, float] = {}
    said = {}
    for name, reader in readers.items():
        found, said[name] = reader.scores(name, workdir, partial(reader.call, variables, strategy))
        scores |= found
    return Scores(scores, said)


def rehearse(
    task: Task,
    variables: Mapping,
    data: Data | None,
    batch_size: int,
    workdir: Any,
    strategy: Strategy,
    step: int,
) -> None:
    """Trace what `evaluate` would compute, which then need not be traced again.

    The first batch of each data set is read and held against its element. An evaluator whose
    `given` is a function is left out, since that may take as long as a training.
    Raises GenaxError for a mistake in an evaluator or in its data.
    """
    for name, evaluator in task.evaluators.items():
        source = data if evaluator.data is None else evaluator.data
        if callable(evaluator.given):
            continue
        batch = {"mask": np.ones(batch_size // strategy.part.count, np.float32)}
        if source is not None:
            batch |= numeric(_first_batch(open_data(source, workdir), batch_size, strategy.part))
        given = None if evaluator.given is None else strategy.copy(evaluator.given)
        reader = _Reader(task, evaluator, jax.random.key(0), given, step)
        with told(f"evaluator {name!r}"), strategy.traced():
            index = global_index(len(batch["mask"]), strategy.part.number)
            reader.trace(variables, 0, strategy.spread({**batch, "index": index}))


def _first_batch(data: Data, batch_size: int, shard: Shard) -> Mapping[str, Any]:
    batch = next(iter(data.evaluate(batch_size, shard)), None)
    if batch is None:
        raise GenaxError("the evaluation data has no example, so there is nothing to score.")
    check_batch("an evaluation batch", batch, data.element, batch_size // shard.count)
    return batch


def _work_through(
    data: Data | None,
    readers: Sequence[_Reader],
    variables: Mapping,
    batch_size: int,
    strategy: Strategy | None,
    progress: Callable[[int], Any] | None,
) -> None:
    """Give each evaluator the batches that it wants, of the data and beyond its end."""
    shard = Shard() if strategy is None else strategy.part
    local = batch_size // shard.count
    place = (lambda batch: batch) if strategy is None else strategy.spread
    batches = iter(()) if data is None else iter(data.evaluate(batch_size, shard))
    batch = {"mask": np.ones(local, np.float32)}
    for number in itertools.count():
        first = number * batch_size
        found = next(batches, None)
        if data is not None and found is None and not first:
            raise GenaxError("the evaluation data has no example, so there is nothing to score.")
        active = [reader for reader in readers if reader.wants(first, found is not None)]
        if not active:
            return
        if found is not None:
            assert data is not None
            check_batch("an evaluation batch", found, data.element, local)
            batch |= numeric(found)
        elif data is not None:
            # What draws gets the last batch again, of which nothing counts.
            batch["mask"] = np.zeros(local, np.float32)
        index = global_index(local, shard.number, first)
        with contextlib.nullcontext() if strategy is None else strategy.traced():
            ready = place({**batch, "index": index})
            for reader in active:
                reader.add(variables, number, ready)
        if progress is not None:
            progress(batch_size)


class _Reader:
    """One evaluator on its way through its data."""

    def __init__(self, task: Task, evaluator: Evaluator, key: Any, given: Any, step: int | None):
        self.task, self.evaluator, self.key = task, evaluator, key
        moment = moment_of(task, step)
        self.stage, self.moment = moment.pop("stage", None), moment
        self.given = () if given is None else (given,)
        self.sums: dict[str, tuple[float, float]] = {}
        self.parts: Sequence[str] = ()
        self.rows: list[list[np.ndarray]] = []
        self.structure: Any = None
        # Whether each output is made of the data, and not of the index alone.
        self.reads: list[bool] = []

    def wants(self, seen: int, there: bool) -> bool:
        """Whether it takes a batch after `seen` examples. there: the data has one more."""
        if self.evaluator.examples is None:
            return there or not seen
        return seen < self.evaluator.examples and (there or not seen or not all(self.reads))

    def add(self, variables: Mapping, number: int, batch: Mapping[str, Any]) -> None:
        """Work through batch `number`."""
        arguments = self._arguments(variables, number, batch)
        if not self.reads:
            self.trace(variables, number, batch)
        # Data that nothing is made of does not say how much counts.
        result, mask, drawn = to_host(_evaluate(*arguments, masked=any(self.reads)))
        if self.evaluator.summarize is None:
            parts, sums = result
            self.parts = list(parts)
            for name, (total, weight) in sums.items():
                totals, weights = self.sums.get(name, (0.0, 0.0))
                self.sums[name] = (totals + float(total), weights + float(weight))
            return
        leaves, self.structure = jax.tree.flatten(result)
        counted = [(mask if read else drawn) > 0 for read in self.reads]
        self.rows.append([leaf[rows] for leaf, rows in zip(leaves, counted, strict=True)])

    def trace(self, variables: Mapping, number: int, batch: Mapping[str, Any]) -> None:
        """Find out what each output is made of."""
        program = _evaluate.trace(*self._arguments(variables, number, batch), masked=True)
        self.reads = self._made_of_data(program.jaxpr.jaxpr, {**batch, **self.moment})

    def _arguments(self, variables: Mapping, number: int, batch: Mapping[str, Any]) -> tuple:
        fixed = (self.task, self.evaluator, self.stage)
        return (*fixed, variables, self.key, number, {**batch, **self.moment}, *self.given)

    def _made_of_data(self, program: Any, batch: Mapping) -> list[bool]:
        """Whether each output of the program is made of the batch's data.

        A mean, and what has as many examples as the data, is made of it as a whole.
        """
        last = len(program.invars) - len(jax.tree.leaves(self.given))
        inputs = zip(sorted(batch), program.invars[last - len(batch) : last], strict=True)
        data = {id(value) for name, value in inputs if name not in ("index", "mask", "step")}
        for equation in program.eqns:
            if any(id(value) in data for value in equation.invars):
                data |= {id(value) for value in equation.outvars}
        # The two masks come last.
        outputs = [id(value) in data for value in program.outvars[:-2]]
        if self.evaluator.examples is None:
            return [True] * len(outputs)
        return [any(outputs)] * len(outputs) if self.evaluator.summarize is None else outputs

    def call(
        self, variables: Mapping, strategy: Strategy | None, function: Any, batch: Mapping[str, Any]
    ) -> Any:
        """Return function(nets, batch) of any batch, as numpy arrays."""
        with contextlib.nullcontext() if strategy is None else strategy.traced():
            ready = {**batch, **self.moment}
            return to_host(_call(self.task, function, self.stage, variables, self.key, ready))

    def scores(
        self, name: str, workdir: Any, call: Any
    ) -> tuple[dict[str, float], Mapping[str, Any]]:
        """The scores, by "<evaluator>" and "<evaluator>/<score>", and what is said of them.

        call: what an evaluator's `summarize` gets, if it takes it.
        """
        if self.evaluator.summarize is not None:
            leaves = [np.concatenate(parts) for parts in zip(*self.rows, strict=True)]
            if not all(map(len, leaves)):
                raise GenaxError(
                    f"evaluator {name!r}: every example of the evaluation data is padding."
                )
            rows = jax.tree.unflatten(self.structure, leaves)
            summarize = self.evaluator.summarize
            places = [
                one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
                for one in inspect.signature(summarize).parameters.values()
            ]
            found = summarize(rows, workdir, *((call,) if sum(places) > 2 else ()))
            scores = {f"{name}/{score}": float(value) for score, value in found.items()}
            return scores, self._said(rows, workdir)
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
        scores = {name: whole} | {f"{name}/{score}": mean for score, mean in means.items()}
        return scores, self._said(None, workdir)

    def _said(self, rows: Any, workdir: Any) -> Mapping[str, Any]:
        says = self.evaluator.says
        return says(rows, workdir) if callable(says) else says


@partial(jax.jit, static_argnums=(0, 1, 2), static_argnames="masked")
def _evaluate(
    task: Task, evaluator: Evaluator, stage, variables, key, number, batch, *given, masked
):
    """The result of a batch, and which rows count: of those read, and of those drawn.

    masked: whether only what the data counts is in the mean of a loss.
    """
    batch = dict(batch)
    mask = batch.pop("mask")
    drawn = jnp.ones_like(mask)
    if evaluator.examples is not None:
        drawn = (batch["index"] < evaluator.examples).astype(mask.dtype)
    mask = mask * drawn
    result = apply_networks(task, evaluator.function, stage, variables, key, number, batch, *given)
    if evaluator.summarize is not None:
        check_rows("row", result, len(mask))
    else:
        check_loss("its function", result, len(mask))
        counted = mask if masked else drawn
        parts = {part: _masked(loss, counted) for part, loss in parts_of(result).items()}
        sums = sums_of(parts["loss"] if isinstance(result, Loss) else parts)
        result = {part: sums[part] for part in parts}, sums
    return result, mask, drawn


@partial(jax.jit, static_argnums=(0, 1, 2))
def _call(task: Task, function: Any, stage: int | None, variables, key, batch):
    return apply_networks(task, function, stage, variables, key, 0, batch)


def _masked(loss: Loss, mask: jax.Array) -> Loss:
    if jnp.shape(loss.values)[:1] != mask.shape:
        return loss  # a metric of no element, which nothing fills up

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
