"""Several steps in one call of the loop: scanned by one program, or dispatched in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from jax import lax

from genax.core.task import Batch, TrainState
from genax.running.flops import equations


def scans_well(programs: Iterable[Any]) -> bool:
    """Whether a loop over the step runs as fast as the step by itself.

    programs: jaxprs of the step.

    XLA's CPU compiler hands a convolution to its fast library if dimensions come in the order of
    NHWC. It rearranges others, such as those of the gradients that JAX derives, in a program's
    outermost computation alone. In a loop they run up to 70 times slower.
    """
    if jax.default_backend() != "cpu":
        return True
    return all(
        _is_plain(equation.params["dimension_numbers"])
        for program in programs
        for equation in equations(program)
        if equation.primitive.name == "conv_general_dilated"
    )


def in_turn(step: Callable) -> Callable[[TrainState, Sequence[Batch]], tuple[TrainState, Any]]:
    """Return the function that takes one compiled step for each of a list of batches.

    Metrics are lists of one value a step, by name.
    """

    def steps(state: TrainState, batches: Sequence[Batch]) -> tuple[TrainState, Any]:
        measured = []
        for batch in batches:
            state, metrics = step(state, batch)
            measured.append(metrics)
        return state, {name: [one[name] for one in measured] for name in measured[0]}

    return steps


def _is_plain(numbers: lax.ConvDimensionNumbers) -> bool:
    """Whether dimensions lie in the order of NHWC, for any number of spatial ones."""
    spatial = tuple(range(1, len(numbers.lhs_spec) - 1))
    images = (0, len(spatial) + 1, *spatial)
    kernel = (len(spatial) + 1, len(spatial), *(axis - 1 for axis in spatial))
    return (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) == (images, kernel, images)
