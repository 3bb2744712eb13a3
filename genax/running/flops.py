"""FLOPs of a program, and the FLOP/s that a device reaches: together, its utilisation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex

from genax.core.step import make_step
from genax.core.task import Batch, Phase, Stage, Task, TrainState


def count_flops(function: Callable, *args: Any) -> float:
    """FLOPs of the matrix products and convolutions of function(*args); nothing is computed.

    A multiply-add is two. The body of a scan counts once an iteration, a cond as its costliest
    branch, a while loop's body once. What remat computes again is counted again, what no other
    operation reads is not.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr, _product)


def kernel_flops(jaxpr: jex.Jaxpr) -> float:
    """FLOPs of the Pallas kernels of a traced program, as `count_flops` counts them.

    A kernel within shard_map counts as on one device.
    """
    return _count(jaxpr, _kernel)


def step_flops(task: Task, stage: int, state: TrainState, batch: Batch) -> float:
    """FLOPs of a stage's step on a global batch, its phases by how often they run.

    state, batch: arrays, or their shapes.
    """
    return flops_of(task.stages[stage], phase_programs(task, stage, state, batch))


def flops_of(stage: Stage, programs: Sequence[jex.Jaxpr]) -> float:
    """FLOPs of a stage's step. programs: those of `phase_programs`."""
    pairs = zip(stage.phases, programs, strict=True)
    return sum(_count(program, _product) * _share(phase) for phase, program in pairs)


def _share(phase: Phase) -> float:
    """Return the share of steps on which a phase runs, of the first 10,000."""
    if callable(phase.every):
        return float(np.mean(phase.moves(np.arange(10_000))))
    return 1 / phase.every


def phase_programs(task: Task, stage: int, state: TrainState, batch: Batch) -> list[jex.Jaxpr]:
    """The step of each phase of a stage alone, as a jaxpr.

    state, batch: arrays, or their shapes.
    """

    def alone(phase: Phase) -> Task:
        """Return the task of one phase, which moves by the optimizer that it has in its stage."""
        mover = task.stages[stage].mover(phase)
        phase = replace(phase, name=mover.name, optimizer=mover.optimizer, every=1)
        return replace(task, stages=(Stage((phase,)),))

    return [
        jax.make_jaxpr(make_step(alone(phase)))(state, batch).jaxpr
        for phase in task.stages[stage].phases
    ]


def equations(jaxpr: jex.Jaxpr) -> Iterator[Any]:
    """All equations of a program, those within loops, branches and calls too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in _within(equation):
            yield from equations(inner)


# FLOPs of one equation; None of one within which others are to be counted.
_Counter = Callable[[Any], float | None]


def _count(jaxpr: Any, counter: _Counter) -> float:
    # Compilers drop what nothing reads, such as the forward kernel in a layer that is computed
    # again but whose result was kept.
    read = {id(var) for equation in jaxpr.eqns for var in equation.invars}
    read |= {id(var) for var in jaxpr.outvars}
    return sum(
        _equation(equation, counter)
        for equation in jaxpr.eqns
        if equation.effects or any(id(var) in read for var in equation.outvars)
    )


def _equation(equation: Any, counter: _Counter) -> float:
    found = counter(equation)
    if found is not None:
        return found
    name, parameters = equation.primitive.name, equation.params
    if name == "cond":
        return max(_count(branch.jaxpr, counter) for branch in parameters["branches"])
    repeats = parameters["length"] if name == "scan" else 1
    if name == "pallas_call":
        repeats = math.prod(parameters["grid_mapping"].grid)
    return repeats * sum(_count(inner, counter) for inner in _within(equation))


def _product(equation: Any) -> float | None:
    name, parameters = equation.primitive.name, equation.params
    out = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        return 2.0 * out * math.prod(equation.invars[0].aval.shape[i] for i in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        features = parameters["dimension_numbers"].rhs_spec[0]
        zeros = math.prod(parameters["lhs_dilation"])  # between the inputs, of a transposed one
        return 2.0 * out * math.prod(kernel) / kernel[features] / zeros
    return None


def _kernel(equation: Any) -> float | None:
    return _equation(equation, _product) if equation.primitive.name == "pallas_call" else None


def _within(equation: Any) -> Iterator[jex.Jaxpr]:
    """The programs that an equation runs."""
    if equation.primitive.name == "tangent":
        # That of `genax.nn.derivatives`: its program is not made before it is compiled.
        run = partial(equation.primitive.impl, **equation.params)
        yield jax.make_jaxpr(run)(*(var.aval for var in equation.invars)).jaxpr
        return
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, jex.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, jex.Jaxpr):
                yield item


def matmul_peak(dtype: Any = jnp.float32) -> float:
    """Measured FLOP/s of one device in square matrix products of `dtype`: the best of a few."""
    size = 1024 if jax.default_backend() == "cpu" else 8192
    left = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(left, left).block_until_ready()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        product(left, left).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(seconds)
