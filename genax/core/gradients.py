"""The mean of a loss over the global batch and its gradient, on any layout of the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import DenyList
from jax import lax

from genax.core import tree
from genax.core.errors import GenaxError
from genax.core.nets import Part, batch_axis, linen_variables, seeing
from genax.core.task import Batch, Loss, Losses, Phase, PyTree, Task

# Metrics that the step makes itself.
_OWN = ("loss", "grad_norm", "finite", "counts")


class Slope(NamedTuple):
    """What a phase's loss gives over the global batch.

    gradient: of the mean, by path. sums: of all terms and metrics. weights: of the terms.
    collections: after all updates.
    """

    gradient: dict[str, jax.Array]
    sums: dict[str, Sum]
    weights: dict[str, jax.Array]
    collections: PyTree


def slope_of(turn: Turn, batch: Batch, key: jax.Array) -> Slope:
    """The gradient of a phase's loss over the global batch, whatever part of it is at hand."""
    function = _slope_of_parts if turn.phase.embed is None else _slope_of_rows
    return function(turn, batch, key)


@dataclass(frozen=True)
class Turn:
    """What a phase computes with in one step.

    params: all that may change. fixed: see `TrainState`. trained: those that the phase trains, by
    path. step: of this stage.
    """

    task: Task
    phase: Phase
    accumulate: int
    params: PyTree
    fixed: PyTree
    trained: dict[str, jax.Array]
    collections: PyTree
    step: jax.Array

    @property
    def shard(self) -> Any:
        """Number of this device's part of the batch."""
        axis = batch_axis()
        return 0 if axis is None else lax.axis_index(axis)

    @property
    def part(self) -> Part:
        """What the phase's functions see of the batch."""
        return "shard" if self.accumulate == 1 else "microbatch"

    def call(self, function, trained, collections, part: Part, batch, key, shard, *rows):
        """function(nets, batch, *rows) and the collections after it."""
        params = tree.unflatten(tree.flatten(self.params) | trained, self.params)
        variables = linen_variables(params, collections, self.fixed)
        apply = nn.apply(function, self.task.networks, mutable=DenyList("params"))
        with seeing(part):
            keys = keys_of(self.task, key, shard)
            found, new = apply(variables, dict(batch, step=self.step), *rows, rngs=keys)
        new = {name: new[name] for name in collections}
        if self.fixed:
            new = tree.part(new, lambda path: not self.task.is_fixed(f"collections/{path}"))
        return found, new

    def microbatches(self, batch):
        """The microbatches and their numbers in the global batch."""
        numbers = self.shard * self.accumulate + jnp.arange(self.accumulate)
        return _split(batch, self.accumulate), numbers

    def merged(self, changes):
        """The collections after the summed changes of all microbatches of this device."""
        return _merged(self.collections, changes, self.task.summed, self.accumulate)

    def merged_over_devices(self, collections):
        """The collections after the changes of all devices."""
        old, axis = self.collections, batch_axis()
        if axis is None:
            return collections
        changes = lax.psum(_changes(old, collections), axis)
        return _merged(old, changes, self.task.summed, lax.axis_size(axis))


def _slope_of_parts(turn: Turn, batch: Batch, key) -> Slope:
    """The gradient of a loss of each element by itself, added up over the parts of the batch."""
    axis = batch_axis()

    def measure(trained, part, shard):
        function = partial(loss_of, turn.phase)
        loss, new = turn.call(function, trained, turn.collections, turn.part, part, key, shard)
        sums = sums_of(loss)
        return {name: sums[name] for name in parts_of(loss)}, (sums, new)

    def weights_of(parts):
        """Weights of the global batch from the parts of all microbatches of this device."""
        weights = {name: part.weight for name, part in parts.items()}
        return weights if axis is None else lax.psum(weights, axis)

    def gradient_of(part, shard, weights=None):
        parts, back, (sums, new) = jax.vjp(
            lambda trained: measure(trained, part, shard), turn.trained, has_aux=True
        )
        weights = weights_of(parts) if weights is None else weights
        slopes = {name: Sum(1 / weight, jnp.zeros(())) for name, weight in weights.items()}
        return back(slopes)[0], sums, new, weights

    if turn.accumulate == 1:
        gradient, sums, collections, weights = gradient_of(batch, turn.shard)
    else:
        inputs = turn.microbatches(batch)
        # If weights do not depend on the networks, XLA leaves these out of this pass.
        weights = weights_of(
            _summed(lambda *args: (measure(turn.trained, *args)[0], None), inputs)[0]
        )

        def contribution(part, shard):
            gradient, sums, new, _ = gradient_of(part, shard, weights)
            return (gradient, sums, _changes(turn.collections, new)), None

        (gradient, sums, changes), _ = _summed(contribution, inputs)
        collections = turn.merged(changes)

    if axis is not None:
        gradient, sums = lax.psum((gradient, sums), axis)
    return Slope(gradient, sums, weights, turn.merged_over_devices(collections))


def _slope_of_rows(turn: Turn, batch: Batch, key) -> Slope:
    """The gradient of a loss of the global batch's rows: by the rows, then back through `embed`.

    `embed` runs a second time on each microbatch, so that what its backward pass needs is kept for
    one of them at a time. Both times it draws the same numbers; the loss draws others.
    """
    axis, accumulate = batch_axis(), turn.accumulate
    key_of_embed, key_of_loss = jax.random.split(key)

    def embed(trained, part, shard):
        function = partial(rows_of, turn.phase)
        return turn.call(function, trained, turn.collections, turn.part, part, key_of_embed, shard)

    if accumulate == 1:
        rows, back, collections = jax.vjp(
            lambda trained: embed(trained, batch, turn.shard), turn.trained, has_aux=True
        )
    else:
        inputs = turn.microbatches(batch)

        def forward(part, shard):
            rows, new = embed(turn.trained, part, shard)
            return _changes(turn.collections, new), rows

        changes, rows = _summed(forward, inputs)
        rows, collections = _joined(rows), turn.merged(changes)
    collections = turn.merged_over_devices(collections)

    def measure(trained, rows):
        loss, new = turn.call(
            turn.phase.loss, trained, collections, "global batch", everything, key_of_loss, 0, *rows
        )
        check_loss(f"the loss of phase {turn.phase.name!r}", loss, None)
        sums = sums_of(loss)
        parts = {name: sums[name] for name in parts_of(loss)}
        mean = sum(part.total / part.weight for part in parts.values())
        return mean, (sums, {name: part.weight for name, part in parts.items()}, new)

    size = len(batch["index"])
    everything = batch
    if axis is not None:
        everything, rows = lax.all_gather((batch, rows), axis, tiled=True)
    (direct, slopes), (sums, weights, collections) = jax.grad(measure, (0, 1), has_aux=True)(
        turn.trained, rows
    )
    if axis is not None:
        slopes = jax.tree.map(
            lambda x: lax.dynamic_slice_in_dim(x, turn.shard * size, size), slopes
        )
    if accumulate == 1:
        (through,) = back(slopes)
    else:

        def contribution(part, shard, slope):
            _, back = jax.vjp(lambda trained: embed(trained, part, shard)[0], turn.trained)
            return back(slope)[0], None

        through, _ = _summed(contribution, (*inputs, _split(slopes, accumulate)))
    through = through if axis is None else lax.psum(through, axis)
    return Slope(jax.tree.map(jnp.add, direct, through), sums, weights, collections)


def rows_of(phase: Phase, nets: Any, batch: Batch) -> tuple[PyTree, ...]:
    """The arguments of a phase's loss after (nets, batch): its rows, if it has any.

    Raises GenaxError if they are not one floating row per element.
    """
    if phase.embed is None:
        return ()
    rows, size = phase.embed(nets, batch), len(batch["index"])
    for path, leaf in tree.flatten(rows).items():
        if jnp.ndim(leaf) == 0 or len(leaf) != size or not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise GenaxError(
                f"embed of phase {phase.name!r} returned {jnp.result_type(leaf)}"
                f"{list(jnp.shape(leaf))} as {path or 'its rows'} for {size} elements; it returns "
                "floating arrays of one row per element, and the loss reads all else itself."
            )
    return (rows,)


def _split(x: PyTree, count: int) -> PyTree:
    """Arrays [count, batch / count, ...] of microbatches.

    They are interleaved, so that each lies on all devices of a sharded batch.
    """
    return jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, count, *x.shape[1:]), 0, 1), x)


def _joined(x: PyTree) -> PyTree:
    """The batch that `_split` made microbatches of."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), x)


def _summed(function: Callable, inputs: PyTree) -> tuple[PyTree, PyTree]:
    """function(*inputs) over their leading axis: its first results summed, its second stacked."""

    def add(carry, one):
        found, kept = function(*one)
        return jax.tree.map(jnp.add, carry, found), kept

    shapes, _ = jax.eval_shape(function, *jax.tree.map(lambda x: x[0], inputs))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return lax.scan(add, zeros, inputs)


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


def loss_of(phase: Phase, nets: Any, batch: Batch) -> Losses:
    """What a phase's loss returns for a batch.

    Raises GenaxError if that is no loss of its elements.
    """
    rows = rows_of(phase, nets, batch)
    loss = phase.loss(nets, batch, *rows)
    check_loss(f"the loss of phase {phase.name!r}", loss, None if rows else len(batch["index"]))
    return loss


def check_loss(whose: str, loss: Losses, size: int | None) -> None:
    """Raise GenaxError if what a function returned is no loss of a batch's elements.

    whose: the function, for the message.
    size: number of elements; None for a loss of all of them together, whose values have any shape.
    """
    for name, part in (loss if isinstance(loss, Mapping) else {"": loss}).items():
        if not isinstance(part, Loss):
            raise GenaxError(
                f"{whose} returned {type(part).__name__}; it returns a genax.core.Loss of one "
                "value per element, or several in a dict by name."
            )
        shape = jnp.shape(part.values)
        if size is not None and shape[:1] != (size,):
            how = "one number" if not shape else f"values of shape {list(shape)}"
            raise GenaxError(
                f"{whose} returned {how}{name and f' as {name!r}'} for {size} elements; it returns "
                "values whose first axis is the batch, and does not average them: the step does, "
                "over all devices (what depends on no element is repeated for each)."
            )


def parts_of(loss: Losses) -> dict[str, Loss]:
    """The terms of a loss by their names; "loss" if there is but one."""
    return dict(loss) if isinstance(loss, Mapping) else {"loss": loss}


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
