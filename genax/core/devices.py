"""How the one step meets the devices: jit over a mesh, or pmap over replicas."""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from genax.core import tree
from genax.core.compilation import compiler_options
from genax.core.data import Shard, global_index
from genax.core.errors import GenaxError
from genax.core.mesh import BATCH, make_mesh
from genax.core.nets import BATCH_AXIS
from genax.core.task import PyTree, TrainState

Rules = Sequence[tuple[str, tuple]]


class Strategy(Protocol):
    """What the loop asks of a way to use devices."""

    @property
    def shards(self) -> int:
        """How many parts a batch is split into."""

    @property
    def part(self) -> Shard:
        """Which part of every batch this process reads."""

    def shardings(self, state: TrainState) -> PyTree:
        """The place of each leaf of a state, of arrays or of shapes."""

    def compile(self, step: Callable, state: TrainState, stacked: bool) -> Callable:
        """The compiled step; it takes the state's memory. stacked: batches of several steps."""

    def put(self, batch: Mapping[str, np.ndarray], stacked: bool) -> Any:
        """This process's part of a batch, on the devices."""

    def spread(self, batch: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """This process's part of a batch, for a program that is not the step."""

    def copy(self, tree: PyTree) -> PyTree:
        """Arrays whole on every device."""

    def traced(self) -> contextlib.AbstractContextManager:
        """Return what to trace such a program in."""


@dataclass(frozen=True)
class Jit:
    """One program over a mesh (see `genax.core.mesh`); XLA partitions it.

    A batch is split over data and fsdp. Parameters, fixed or not, their averages and their
    optimizer statistics are placed by the first matching rule, or else split along their largest
    divisible axis over fsdp and along the next over tensor. A rule is (path pattern, one axis name
    or None per dimension).
    """

    mesh: Mesh
    rules: Rules = ()

    @property
    def shards(self) -> int:
        """Parts of a batch."""
        return self.mesh.shape["data"] * self.mesh.shape["fsdp"]

    @property
    def part(self) -> Shard:
        """The part that this process's devices hold; devices joined by another axis share one."""
        held: defaultdict[int, list[int]] = defaultdict(list)
        for number, devices in enumerate(self.mesh.devices.reshape(self.shards, -1)):
            for process in {device.process_index for device in devices}:
                held[process].append(number)
        parts = sorted({tuple(numbers) for numbers in held.values()})
        if any(len(one) * len(parts) != self.shards for one in parts):
            raise GenaxError(
                f"config.parallel.mesh: the {self.shards} parts of a batch lie across the "
                f"processes as {parts}, which cannot read parts of one size; change the mesh."
            )
        return Shard(parts.index(tuple(held[jax.process_index()])), len(parts))

    def shardings(self, state: TrainState) -> PyTree:
        """The place of each leaf of a state."""
        shapes = {path: leaf.shape for path, leaf in tree.flatten(state.params).items()}

        def place(path, leaf):
            # A statistic of another shape, such as Adafactor's sums over rows, has other axes.
            ruled = leaf.shape == shapes.get(_parameter(path, shapes), leaf.shape)
            return NamedSharding(self.mesh, self._spec(path, leaf.shape, ruled))

        return tree.map_by_path(place, state)

    def _spec(self, path: str, shape: tuple[int, ...], ruled: bool) -> PartitionSpec:
        if not path.startswith(("params/", "ema/", "opt_state/", "fixed/params/")) or not shape:
            return PartitionSpec()
        for pattern, axes in self.rules if ruled else ():
            if len(axes) == len(shape) and tree.matches(f"**/{pattern}", path):
                self._check(path, shape, axes)
                return PartitionSpec(*axes)
        spec: list[str | None] = [None] * len(shape)
        for axis in ("fsdp", "tensor"):
            parts = self.mesh.shape[axis]
            free = [
                size if spec[i] is None and size % parts == 0 else 0 for i, size in enumerate(shape)
            ]
            if parts > 1 and any(free):
                spec[int(np.argmax(free))] = axis
        return PartitionSpec(*spec)

    def _check(self, path, shape, axes):
        for size, names in zip(shape, axes, strict=True):
            parts = math.prod(self.mesh.shape[n] for n in np.atleast_1d(names or []))
            if size % parts:
                raise GenaxError(
                    f"{path} of shape {shape} can't be split as {axes}: {size} is no multiple of "
                    f"{parts}; change config.parallel.mesh or the task's partition rules."
                )

    def compile(self, step: Callable, state: TrainState, stacked: bool) -> Callable:
        """The step as one partitioned program."""
        placed, split = self.shardings(state), self._batch(stacked)

        def split_step(state, batch):
            # What is made of the index alone, such as a generator's latents, is split like the
            # batch: left to itself, XLA computes the whole of it on every device.
            shape = jax.tree.leaves(dict(batch))[0].shape[: 2 if stacked else 1]
            index = batch.get("index", global_index(shape[-1], numpy=jnp))
            index = jnp.broadcast_to(index, shape)
            index = jax.lax.with_sharding_constraint(index, split)
            with self.traced():
                return step(state, {**batch, "index": index})

        return jax.jit(
            split_step,
            donate_argnums=0,
            in_shardings=(placed, split),
            out_shardings=(placed, NamedSharding(self.mesh, PartitionSpec())),
            compiler_options=compiler_options(self.mesh.devices.flat[0].platform),
        )

    def put(self, batch: Mapping[str, np.ndarray], stacked: bool) -> Any:
        """Global arrays from the parts that each process holds."""
        sharding = self._batch(stacked)
        if jax.process_count() == 1:
            return jax.device_put(dict(batch), sharding)
        # A slice of TPUs scatters a process's examples over the batch; each keeps its number.
        shape = next(iter(batch.values())).shape[: 2 if stacked else 1]
        index = global_index(shape[-1], self.part.number)
        return {
            name: jax.make_array_from_process_local_data(sharding, array)
            for name, array in {"index": np.broadcast_to(index, shape), **batch}.items()
        }

    def spread(self, batch: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """Return the batch, split as the step's batches are."""
        return self.put(batch, stacked=False)

    def copy(self, tree: PyTree) -> PyTree:
        """Arrays whole on every device of the mesh."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def traced(self) -> contextlib.AbstractContextManager:
        """Let networks split activations, and run kernels of single devices, by the mesh."""
        return jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh)

    def _batch(self, stacked: bool) -> NamedSharding:
        spec = (BATCH,)
        return NamedSharding(self.mesh, PartitionSpec(*((None, *spec) if stacked else spec)))


@dataclass(frozen=True)
class Pmap:
    """The same program on every device, each with the whole state and its part of the batch."""

    devices: Sequence[jax.Device]

    @property
    def shards(self) -> int:
        """Parts of a batch."""
        return len(self.devices)

    @property
    def part(self) -> Shard:
        """The whole batch, since pmap runs in one process."""
        return Shard()

    def shardings(self, state: TrainState) -> PyTree:
        """Every leaf whole on every device."""
        replicated = NamedSharding(self._mesh(), PartitionSpec())
        return jax.tree.map(lambda _: replicated, state)

    def compile(self, step: Callable, state: TrainState, stacked: bool) -> Callable:
        """The step under jax.pmap, with gradients summed over `BATCH_AXIS` by the step itself."""
        return jax.pmap(
            step,
            axis_name=BATCH_AXIS,
            in_axes=(None, 1 if stacked else 0),
            out_axes=None,
            devices=self.devices,
            donate_argnums=0,
        )

    def put(self, batch: Mapping[str, np.ndarray], stacked: bool) -> Any:
        """Batches with an axis of devices: [devices, ...], or [steps, devices, ...] if stacked."""
        lead = (BATCH_AXIS,) if not stacked else (None, BATCH_AXIS)
        sharding = NamedSharding(self._mesh(), PartitionSpec(*lead))
        at = 1 if stacked else 0
        return {
            name: jax.device_put(
                array.reshape(*array.shape[:at], self.shards, -1, *array.shape[at + 1 :]), sharding
            )
            for name, array in batch.items()
        }

    def spread(self, batch: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """Return the batch as it is: the program runs on whole arrays."""
        return batch

    def copy(self, tree: PyTree) -> PyTree:
        """Arrays whole on every device."""
        return jax.device_put(tree, NamedSharding(self._mesh(), PartitionSpec()))

    def traced(self) -> contextlib.AbstractContextManager:
        """Return a context without effect."""
        return contextlib.nullcontext()

    def _mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), (BATCH_AXIS,), axis_types=(AxisType.Auto,))


def make_strategy(
    parallel: Mapping[str, Any], rules: Rules = (), devices: Sequence[jax.Device] | None = None
) -> Strategy:
    """The strategy that `config.parallel` names, over these devices; None is all at hand.

    Raises GenaxError if the mesh does not fit the devices.
    """
    strategy = parallel["strategy"]
    if strategy == "pmap":
        if jax.process_count() > 1:
            raise GenaxError("pmap runs in one process; use config.parallel.strategy=jit.")
        return Pmap(tuple(jax.devices() if devices is None else devices))
    if strategy != "jit":
        raise GenaxError(f"config.parallel.strategy={strategy} is neither jit nor pmap.")
    return Jit(make_mesh(parallel["mesh"], devices), tuple(rules))


def _parameter(path: str, parameters: Collection[str]) -> str | None:
    """The parameter that a leaf belongs to: its path ends with that one's."""
    parts = path.split("/")
    ends = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((end for end in ends if end in parameters), None)


def create(function: Callable[[], TrainState], strategy: Strategy) -> TrainState:
    """Return the state that `function` makes, each leaf created in its place."""
    return jax.jit(function, out_shardings=strategy.shardings(jax.eval_shape(function)))()


def abstract(function: Callable[[], TrainState], strategy: Strategy) -> TrainState:
    """Shapes, dtypes and places of the state that `function` would make."""
    shapes = jax.eval_shape(function)
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        strategy.shardings(shapes),
    )
