"""The step: one pure function from (state, batch) to (state, metrics), for any task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from genax.core import ema, tree
from genax.core.data import global_index
from genax.core.errors import GenaxError
from genax.core.gradients import Turn, loss_of, slope_of
from genax.core.nets import batch_axis
from genax.core.task import Batch, Phase, PyTree, Stage, Task, TrainState

Metrics = dict[str, jax.Array]
Element = Mapping[str, jax.ShapeDtypeStruct]


def init_state(
    task: Task, seed: int, element: Element | tuple[Element, ...], stage: int = 0
) -> TrainState:
    """The state before step 0; under jax.eval_shape, its shapes.

    element: shapes of one example, as `Data.element`, for all stages or one a stage. Parameters
    are initialised by tracing every loss of every stage, and `Task.given`, on a batch of zeros; no
    shape is written by hand. stage: whose optimizers the state holds.
    """
    rng = jax.random.key(seed)
    elements = element if isinstance(element, tuple) else (element,) * len(task.stages)

    def losses(nets):
        for number, (one, shapes) in enumerate(zip(task.stages, elements, strict=True)):
            batch = {name: jnp.zeros((2, *s.shape), s.dtype) for name, s in shapes.items()}
            batch |= {"index": global_index(2, numpy=jnp), "step": jnp.zeros((), jnp.int32)}
            for phase in one.phases:
                loss_of(phase, nets, batch)
            if task.given is not None and number == 0:
                task.given(nets, batch)

    streams = ("params", "example", *task.streams)
    keys = jax.random.split(jax.random.fold_in(rng, 0xFFFF), len(streams))
    collections = dict(nn.init(losses, task.networks)(dict(zip(streams, keys, strict=True))))
    params, fixed = collections.pop("params", {}), dict[str, Any]()
    if missing := sorted(set(task.summed) - set(collections)):
        raise GenaxError(f"Task.summed names {missing}, but the networks have {list(collections)}.")
    if task.fixed:
        params, collections, fixed = _split(task, params, collections)
    for one in task.stages:
        _check_trained(one, params)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        rng=jax.random.key_data(rng),
        params=params,
        collections=collections,
        opt_state=init_optimizers(task, stage, params),
        ema=ema.start(task.ema, params, collections),
        fixed=fixed,
    )


def _split(task: Task, params: PyTree, collections: PyTree) -> tuple[PyTree, PyTree, PyTree]:
    """Parameters and collections that may change, and both of what is fixed in its dtype.

    Raises GenaxError if a phase trains what is fixed, and for a dtype that cannot keep it.
    """
    patterns = [one for one in task.fixed if not one.startswith("!")]
    named = tree.select(params, patterns, "Task.fixed: pattern")
    task.check_fixed(path for path in named if task.is_fixed(f"params/{path}"))
    both = {"params": params, "collections": collections}
    dtypes = task.fixed if isinstance(task.fixed, Mapping) else {}
    for pattern, dtype in dtypes.items():
        if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
            raise GenaxError(f"Task.fixed would keep {pattern!r} in {dtype}, which is no float.")

    def cast(path, leaf):
        dtype = dtypes.get(task.fixed_by(path))
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf if dtype is None or not floating else leaf.astype(dtype)

    fixed = tree.map_by_path(cast, tree.part(both, task.is_fixed))
    free = tree.part(both, lambda path: not task.is_fixed(path))
    return free.get("params", {}), free.get("collections", {}), fixed


def _check_trained(stage: Stage, params: PyTree) -> None:
    """Raise GenaxError if a phase trains nothing, or two that play together one parameter."""
    trained: dict[str, str] = {}
    for phase in stage.phases:
        for path in trained_by(phase, params):
            if stage.together and path in trained:
                raise GenaxError(
                    f"phases {trained[path]!r} and {phase.name!r} play together and both train "
                    f"{path}; give it to one of them, or the stage together=False."
                )
            trained[path] = phase.name


def trained_by(phase: Phase, params: PyTree) -> dict[str, Any]:
    """Path to parameter, for those that a phase trains."""
    return tree.select(params, phase.trains, f"phase {phase.name!r}: the pattern of trains")


def init_optimizers(task: Task, stage: int, params: Any) -> dict[str, Any]:
    """Fresh optimizer state of a stage, by the phase whose optimizer it is."""
    one = task.stages[stage]
    movers: dict[str, Any] = {mover.name: mover for mover in map(one.mover, one.phases)}
    return {name: phase.optimizer.init(trained_by(phase, params)) for name, phase in movers.items()}


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
            size, axis = len(jax.tree.leaves(dict(batch))[0]), batch_axis()
            part = 0 if axis is None else lax.axis_index(axis)
            batch = dict(batch, index=global_index(size, part, numpy=jnp))
        rng = jax.random.wrap_key_data(state.rng)
        metrics: Metrics = {}
        before = state.params
        for number, phase in enumerate(task.stages[stage].phases):
            params = before if task.stages[stage].together else state.params
            key = jax.random.fold_in(jax.random.fold_in(rng, state.step), number)
            turn = partial(Turn, task, phase, accumulate, params, state.fixed, step=local_step)
            mover = task.stages[stage].mover(phase)
            moves = partial(_minimise, turn, mover.optimizer, batch, key)
            own = state.opt_state[mover.name]
            old = PhaseState(trained_by(phase, params), state.collections, own)
            new, measured = moves(old) if phase.every == 1 else _turn(phase, local_step, moves, old)
            state = state.replace(
                params=tree.unflatten(tree.flatten(state.params) | new.params, state.params),
                collections=new.collections,
                opt_state={**state.opt_state, mover.name: new.opt_state},
            )
            metrics |= {f"{phase.name}/{name}": value for name, value in measured.items()}
        averages = ema.advance(task.ema, state.ema, state.params, state.collections, state.step)
        return state.replace(step=state.step + 1, ema=averages), metrics

    return step


def make_steps(step: Callable) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Several steps in one dispatch: batches and metrics have a leading axis of steps."""
    return lambda state, batches: lax.scan(step, state, batches)


class PhaseState(NamedTuple):
    """What one phase may change: the parameters it trains (by path), statistics, optimizer."""

    params: dict[str, jax.Array]
    collections: PyTree
    opt_state: PyTree


def _turn(phase: Phase, local_step, moves, old: PhaseState):
    """Run the phase on its steps; measure NaN on the others."""
    shapes = jax.eval_shape(moves, old)[1]

    def rest(old):
        empty = lambda s: jnp.full(s.shape, s.dtype == bool or jnp.nan, s.dtype)  # noqa: E731
        return old, jax.tree.map(empty, shapes)

    return lax.cond(phase.moves(local_step), moves, rest, old)


def _minimise(make_turn: Callable[..., Turn], optimizer: Any, batch, key, old: PhaseState):
    """One optimizer step of one phase, on the mean of its loss over the global batch."""
    turn = make_turn(old.params, old.collections)
    gradient, sums, weights, collections = slope_of(turn, batch, key)
    updates, opt_state = optimizer.update(gradient, old.opt_state, old.params)
    metrics: dict[str, Any] = {name: sum_.total / sum_.weight for name, sum_ in sums.items()}
    metrics["loss"] = sum(metrics[part] for part in weights)
    metrics["counts"] = jnp.stack(list(weights.values())).all()
    metrics["grad_norm"] = optax.tree.norm(gradient)
    metrics["finite"] = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
    return PhaseState(optax.apply_updates(old.params, updates), collections, opt_state), metrics
