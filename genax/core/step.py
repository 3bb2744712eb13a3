"""The step: one pure function from (state, batch) to (state, metrics), for any task."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.core import DenyList
from jax import lax

from genax.core import ema, tree
from genax.core.errors import GenaxError
from genax.core.nets import batch_axis, microbatch
from genax.core.task import Batch, Loss, Losses, Phase, PyTree, Task, TrainState

Metrics = dict[str, jax.Array]
# Metrics that the step makes itself.
_OWN = ("loss", "grad_norm", "finite", "counts")

Element = Mapping[str, jax.ShapeDtypeStruct]


def init_state(
    task: Task, seed: int, element: Element | tuple[Element, ...], stage: int = 0
) -> TrainState:
    """The state before step 0; under jax.eval_shape, its shapes.

    element: shapes of one example, as `Data.element`, for all stages or one a stage. Parameters
    are initialised by tracing every loss of every stage on a batch of zeros; no shape is written
    by hand. stage: whose optimizers the state holds.
    """
    rng = jax.random.key(seed)
    elements = element if isinstance(element, tuple) else (element,) * len(task.stages)

    def losses(nets):
        for one, shapes in zip(task.stages, elements, strict=True):
            batch = {name: jnp.zeros((2, *s.shape), s.dtype) for name, s in shapes.items()}
            batch |= {"index": jnp.arange(2), "step": jnp.zeros((), jnp.int32)}
            for phase in one.phases:
                parts_of(phase.loss(nets, batch))

    streams = ("params", "example", *task.streams)
    keys = jax.random.split(jax.random.fold_in(rng, 0xFFFF), len(streams))
    collections = dict(nn.init(losses, task.networks)(dict(zip(streams, keys, strict=True))))
    params = collections.pop("params")
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        rng=jax.random.key_data(rng),
        params=params,
        collections=collections,
        opt_state=init_optimizers(task, stage, params),
        ema=ema.start(task.ema, params),
    )


def init_optimizers(task: Task, stage: int, params: Any) -> dict[str, Any]:
    """Fresh optimizer state of a stage, by phase."""
    return {
        phase.name: phase.optimizer.init(tree.select(params, phase.trains))
        for phase in task.stages[stage].phases
    }


def make_step(
    task: Task, stage: int = 0, accumulate: int = 1
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The pure step of a stage.

    accumulate: the batch is worked through in this many microbatches; gradients and weights add
    up, so the mean is that of the whole batch.

    Metrics are "<phase>/loss", "<phase>/grad_norm", "<phase>/<aux name>", "<phase>/finite" (whether
    loss and gradient are) and "<phase>/counts" (whether any element does); a loss of several terms
    adds "<phase>/<term>". Those of a phase that does not run on this step are NaN, these two true.
    The step sees the whole batch (jit), or its part inside pmap over `batch_axis()`.
    """
    start = task.start_of(stage)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        local_step = state.step - start
        if "index" not in batch:
            batch = dict(batch, index=_global_index(batch))
        rng = jax.random.wrap_key_data(state.rng)
        metrics: Metrics = {}
        for number, phase in enumerate(task.stages[stage].phases):
            key = jax.random.fold_in(jax.random.fold_in(rng, state.step), number)
            moves = partial(
                _minimise, task, phase, accumulate, state.params, batch, key, local_step
            )
            old = Moved(
                tree.select(state.params, phase.trains),
                state.collections,
                state.opt_state[phase.name],
            )
            if phase.every == 1:
                new, measured = moves(old)
            else:
                new, measured = _every(phase.every, local_step, moves, old)
            state = state.replace(
                params=tree.unflatten(tree.flatten(state.params) | new.params, state.params),
                collections=new.collections,
                opt_state={**state.opt_state, phase.name: new.opt_state},
            )
            metrics |= {f"{phase.name}/{name}": value for name, value in measured.items()}
        averages = ema.advance(task.ema, state.ema, state.params, state.step)
        return state.replace(step=state.step + 1, ema=averages), metrics

    return step


def make_steps(step: Callable) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Several steps in one dispatch: batches and metrics have a leading axis of steps."""
    return lambda state, batches: lax.scan(step, state, batches)


class Moved(NamedTuple):
    """What one phase may change: the parameters it trains (by path), statistics, optimizer."""

    params: dict[str, jax.Array]
    collections: PyTree
    opt_state: PyTree


def _every(every: int, local_step, moves, old: Moved):
    """Run the phase on each `every`-th step; measure NaN on the others."""
    shapes = jax.eval_shape(moves, old)[1]

    def rest(old):
        fill = lambda shape: True if shape.dtype == bool else jnp.nan  # noqa: E731
        return old, jax.tree.map(lambda s: jnp.full(s.shape, fill(s), s.dtype), shapes)

    return lax.cond(local_step % every == 0, moves, rest, old)


def _global_index(batch: Batch) -> jax.Array:
    size = len(jax.tree.leaves(dict(batch))[0])
    axis = batch_axis()
    return jnp.arange(size) + (0 if axis is None else size * lax.axis_index(axis))


def _minimise(task: Task, phase: Phase, accumulate, params, batch, key, local_step, old: Moved):
    """One optimizer step of one phase, on the mean of its loss over the global batch."""
    axis = batch_axis()
    leaves = tree.flatten(params)
    apply = nn.apply(phase.loss, task.networks, mutable=DenyList("params"))

    def measure(trained, part, shard):
        with contextlib.nullcontext() if accumulate == 1 else microbatch():
            loss, collections = apply(
                {"params": tree.unflatten(leaves | trained, params), **old.collections},
                dict(part, step=local_step),
                rngs=keys_of(task, key, shard),
            )
        sums = sums_of(loss)
        parts = {part: sums[part] for part in parts_of(loss)}
        return parts, (sums, {name: collections[name] for name in old.collections})

    def weights_of(parts):
        """Of the global batch, where the parts are those of all its microbatches."""
        weights = {name: part.weight for name, part in parts.items()}
        return weights if axis is None else lax.psum(weights, axis)

    def gradient_of(part, shard, weights=None):
        parts, back, (sums, new) = jax.vjp(
            lambda trained: measure(trained, part, shard), old.params, has_aux=True
        )
        weights = weights_of(parts) if weights is None else weights
        slopes = {name: Sum(1 / weight, jnp.zeros(())) for name, weight in weights.items()}
        return back(slopes)[0], sums, new, weights

    shard = 0 if axis is None else lax.axis_index(axis)
    if accumulate == 1:
        gradient, sums, collections, weights = gradient_of(batch, shard)
    else:
        # Interleaved, so that each microbatch lies on all devices of a sharded batch.
        micro = jax.tree.map(
            lambda x: jnp.swapaxes(x.reshape(-1, accumulate, *x.shape[1:]), 0, 1), batch
        )
        inputs = (micro, shard * accumulate + jnp.arange(accumulate))
        # Where weights do not depend on the networks, XLA leaves these out of this pass.
        weights = weights_of(_summed(lambda *args: measure(old.params, *args)[0], inputs))

        def contribution(part, shard):
            gradient, sums, new, _ = gradient_of(part, shard, weights)
            return gradient, sums, _changes(old.collections, new)

        gradient, sums, changes = _summed(contribution, inputs)
        collections = _merged(old.collections, changes, task.summed, accumulate)

    if axis is not None:
        gradient, sums = lax.psum((gradient, sums), axis)
        changes = lax.psum(_changes(old.collections, collections), axis)
        collections = _merged(old.collections, changes, task.summed, lax.axis_size(axis))

    updates, opt_state = phase.optimizer.update(gradient, old.opt_state, old.params)
    metrics = {name: sum_.total / sum_.weight for name, sum_ in sums.items()}
    metrics["loss"] = sum(metrics[part] for part in weights)
    metrics["counts"] = jnp.stack(list(weights.values())).all()
    metrics["grad_norm"] = optax.tree.norm(gradient)
    metrics["finite"] = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
    return Moved(optax.apply_updates(old.params, updates), collections, opt_state), metrics


def _summed(function: Callable, inputs: PyTree) -> PyTree:
    """The sum of function(*inputs) over their leading axis."""

    def add(carry, one):
        return jax.tree.map(jnp.add, carry, function(*one)), None

    shapes = jax.eval_shape(function, *jax.tree.map(lambda x: x[0], inputs))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return lax.scan(add, zeros, inputs)[0]


def keys_of(task: Task, key, shard):
    """One key a stream; all but "example" differ by shard, so no two shards share a mask."""
    keys = {"example": jax.random.fold_in(key, 0)}
    for number, stream in enumerate(task.streams, start=1):
        keys[stream] = jax.random.fold_in(jax.random.fold_in(key, number), shard)
    return keys


class Sum(NamedTuple):
    """A weighted sum and its weight, float32."""

    total: jax.Array
    weight: jax.Array


def parts_of(loss: Losses) -> dict[str, Loss]:
    """The terms of a loss by their names; "loss" where there is but one.

    Raises GenaxError where a loss function has returned anything else.
    """
    parts = loss if isinstance(loss, Mapping) else {"loss": loss}
    for part in parts.values():
        if not isinstance(part, Loss):
            raise GenaxError(
                f"a loss function returned {type(part).__name__}; it returns a genax.core.Loss of "
                "one value per element, or several in a dict by name."
            )
    return dict(parts)


def sums_of(loss: Losses) -> dict[str, Sum]:
    """The sums of all terms of a loss and of all their metrics, "<term>/<metric>" of several."""
    if isinstance(loss, Loss):
        return _sums_of(loss, "loss", "")
    sums: dict[str, Sum] = {}
    for name, part in loss.items():
        _check_name(name)
        sums |= _sums_of(part, name, f"{name}/")
    return sums


def _sums_of(loss: Loss, name: str, prefix: str) -> dict[str, Sum]:
    values = jnp.asarray(loss.values, jnp.float32)
    if loss.weights is None:
        sums = {name: Sum(values.sum(), jnp.float32(values.size))}
    else:
        weights = lax.stop_gradient(jnp.asarray(loss.weights, jnp.float32))
        weights = jnp.broadcast_to(weights, values.shape)
        # An element without weight may be infinite, and infinity times zero is NaN.
        values = jnp.where(weights == 0, 0.0, values)
        sums = {name: Sum((values * weights).sum(), weights.sum())}
    for key, metric in loss.aux.items():
        _check_name(prefix + key)
        metric = metric if isinstance(metric, Loss) else Loss(metric)
        sums |= _sums_of(metric, prefix + key, f"{prefix}{key}/")
    return sums


def _check_name(name: str) -> None:
    if name in _OWN:
        raise GenaxError(
            f"a loss names a term or metric {name!r}, which the step makes itself, as it does "
            f"{', '.join(_OWN)}; choose another name."
        )


def _changes(old: PyTree, new: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.asarray(b - a, jnp.result_type(b, jnp.float32)), old, new)


def _merged(old: PyTree, changes: PyTree, summed, shards) -> PyTree:
    """The collections after the summed changes of all shards of a batch."""

    def merge(name):
        scale = 1.0 if name in summed else 1.0 / shards

        def add(leaf, change):
            new = leaf + change * scale
            return (jnp.round(new) if jnp.issubdtype(leaf.dtype, jnp.integer) else new).astype(
                leaf.dtype
            )

        return jax.tree.map(add, old[name], changes[name])

    return {name: merge(name) for name in old}
