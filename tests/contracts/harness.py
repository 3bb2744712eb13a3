"""Runs of the table's tasks on every layout of devices; what is compiled is kept for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genax.core import Task, TrainState, init_state, make_step
from genax.core.devices import Jit, Pmap, Strategy
from genax.core.mesh import make_mesh
from genax.core.step import init_optimizers
from tests.compilation import users_compilation
from tests.contracts.rows import BY_NAME, Row

SEED = 3
# After these all layouts are compared; the reference goes one on, where each lazy phase has moved
# a second time.
STEPS = 5
HISTORY = 6
REFERENCE = "jit"


@dataclass(frozen=True)
class Layout:
    """How a batch is spread: over which devices, in how many microbatches.

    within: a stricter layout, which experiments run on in place of this one. An experiment runs on
      this one only if the stricter one is an exception of its row. Toys run on both.
    """

    strategy: Callable[[Task], Strategy]
    accumulate: int = 1
    within: str = ""


def _mesh(text: str, devices: int = 4) -> Callable[[Task], Strategy]:
    return lambda task: Jit(make_mesh(text, jax.devices()[:devices]), tuple(task.rules))


def _pmap(task: Task) -> Strategy:
    return Pmap(tuple(jax.devices()[:4]))


LAYOUTS = {
    REFERENCE: Layout(_mesh("data=1", devices=1)),
    "sharded": Layout(_mesh("data=2,fsdp=2"), within="sharded_accumulate_4"),
    "pmap": Layout(_pmap),
    "pmap_accumulate_2": Layout(_pmap, 2, within="sharded_accumulate_4"),
    "sharded_accumulate_4": Layout(_mesh("data=2,fsdp=2"), 4),
}


class Compiled(NamedTuple):
    """A step for one stage on one layout."""

    strategy: Strategy
    step: Callable


@contextmanager
def quick_compilation() -> Iterator[None]:
    """Compile at once rather than well: for what runs once, such as an initialisation."""
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


@contextmanager
def fresh_compilation() -> Iterator[None]:
    """Compile at once, and put nothing into the folder of compiled programs."""
    with unkept_programs(), quick_compilation():
        yield


@contextmanager
def unkept_programs() -> Iterator[None]:
    """Put nothing into the folder of compiled programs.

    A program of several devices that is read back from there may wait for ever in a collective:
    BERT's step in microbatches on a mesh did, and a step with ring attention.
    """
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)
    try:
        yield
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before)


def on_host(tree: Any) -> Any:
    """Copies as numpy arrays; the step takes the memory of what it is given."""
    return jax.tree.map(lambda x: np.array(x), tree)


def placed(state: TrainState, strategy: Strategy) -> TrainState:
    """A state of the host on the devices of a strategy, which shares no memory with it."""
    return jax.device_put(state, strategy.shardings(state), may_alias=False)


@cache
def task_of(name: str, dtype: Any = jnp.float32) -> Task:
    """A row's task."""
    return BY_NAME[name].make(dtype)


def initialiser(row: Row, stage: int = 0) -> Callable[[], TrainState]:
    """Makes the state before step 0, of any place."""
    return partial(init_state, task_of(row.name), SEED, row.element, stage)


@cache
def initial(name: str) -> TrainState:
    """A row's state before step 0, on the host."""
    with quick_compilation():
        return on_host(jax.jit(initialiser(BY_NAME[name]))())


@cache
def compiled(name: str, layout: str, stage: int = 0) -> Compiled:
    """The step of a row's stage on a layout."""
    task, how = task_of(name), LAYOUTS[layout]
    strategy = how.strategy(task)
    state = jax.eval_shape(initialiser(BY_NAME[name], stage))
    step = make_step(task, stage, how.accumulate)
    # The reference has to repeat to the bit in users' runs.
    with users_compilation() if layout == REFERENCE else nullcontext():
        return Compiled(strategy, strategy.compile(step, state, stacked=False))


def next_stage(name: str, layout: str, state: TrainState, stage: int) -> TrainState:
    """What the loop does between stages: the optimizers are fresh, all else goes on."""
    strategy = compiled(name, layout, stage).strategy
    fresh = init_optimizers(task_of(name), stage, on_host(state.params))
    state = state.replace(opt_state=fresh)
    return state.replace(opt_state=jax.device_put(fresh, strategy.shardings(state).opt_state))


def play(name: str, layout: str, state: TrainState, first: int, last: int):
    """Yield (state, metrics) of the host after each step from `first` up to `last`."""
    row, task = BY_NAME[name], task_of(name)
    compilation = unkept_programs if LAYOUTS[layout].accumulate > 1 else nullcontext
    for step in range(first, last):
        stage, start = task.stage_at(step)
        if step == start and stage:
            state = next_stage(name, layout, state, stage)
        how = compiled(name, layout, stage)
        batch = how.strategy.put(row.batch_at(step), stacked=False)
        with compilation():
            state, metrics = how.step(state, batch)
        yield state, on_host(metrics)


@cache
def history(name: str) -> tuple[list[TrainState], list[dict[str, np.ndarray]]]:
    """All states of a row's run on one device, the first included, and the metrics of its steps."""
    states, metrics = [initial(name)], []
    start = placed(initial(name), compiled(name, REFERENCE).strategy)
    for state, measured in play(name, REFERENCE, start, 0, HISTORY):
        states.append(on_host(state))
        metrics.append(measured)
    return states, metrics


@cache
def last_of(name: str, layout: str) -> tuple[TrainState, list[dict[str, np.ndarray]]]:
    """The state after a row's run on a layout, on the host, and the metrics of its steps."""
    start, measured = placed(initial(name), compiled(name, layout).strategy), []
    for state, metrics in play(name, layout, start, 0, STEPS):  # noqa: B007
        measured.append(metrics)
    return on_host(state), measured
