"""Reverse-mode derivatives written by hand, beside the forward mode that JAX derives.

A function of `jax.custom_vjp` has no forward mode. `set_reverse_rule` takes the same two functions
and keeps both modes in any order: a penalty is the gradient of a gradient, and the loss of a
one-step model is the gradient of a `jax.jvp`. It stages one linear operation from the tangents of
the arguments to those of the results. The forward mode of that operation is what JAX derives. Its
transpose is the rule written by hand. No reverse-mode program contains the operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Arrays = Sequence[Any]


def set_reverse_rule(function: jax.custom_jvp, forward: Callable, backward: Callable) -> None:
    """Give a function a reverse-mode derivative written by hand.

    function: made by `jax.custom_jvp`. Its nondiff_argnums come last. JAX derives its forward mode.
    forward: the function's arguments -> (results, saved).
    backward: (*nondiff arguments, saved, gradient of the results) -> a gradient for each other
      argument, or None for an argument without one, as in `jax.custom_vjp.defvjp`.
    """

    def derivative(*args):
        *fixed, primals, tangents = args
        leaves, tree = jax.tree.flatten(primals)
        tangents = tree.flatten_up_to(tangents)
        # Constants and integers have no tangent.
        moving = [i for i, x in enumerate(tangents) if not isinstance(x, SymbolicZero)]

        def compute(arrays):
            return function.fun(*jax.tree.unflatten(tree, arrays), *fixed)

        results, saved = forward(*primals, *fixed)
        results, results_tree = jax.tree.flatten(results)
        types = [jax.typeof(x).to_tangent_aval() for x in results]
        real = [i for i, kind in enumerate(types) if kind.dtype != jax.dtypes.float0]
        saved, saved_tree = jax.tree.flatten(saved)

        def whole(parts):
            """Return the tangents of all results, given those of the floating-point results."""
            zeros = [np.zeros(kind.shape, jax.dtypes.float0) for kind in types]
            return jax.tree.unflatten(results_tree, _replaced(zeros, real, parts))

        def push(arrays, tangents):
            def at(moved):
                found = jax.tree.leaves(compute(_replaced(arrays, moving, moved)))
                return [found[i] for i in real]

            return jax.jvp(at, ([arrays[i] for i in moving],), (list(tangents),))[1]

        def pull(saved, gradients):
            found = backward(*fixed, jax.tree.unflatten(saved_tree, saved), whole(gradients))
            found = tree.flatten_up_to(tuple(found))
            return [found[i] for i in moving]

        linear = _Linear(push, pull, len(leaves), len(saved), tuple(types[i] for i in real))
        pushed = linear(leaves, saved, [tangents[i] for i in moving])
        return jax.tree.unflatten(results_tree, results), whole(pushed)

    function.defjvp(derivative, symbolic_zeros=True)


def _replaced(values: Arrays, places: Sequence[int], parts: Arrays) -> list[Any]:
    values = list(values)
    for place, part in zip(places, parts, strict=True):
        values[place] = part
    return values


@dataclass(frozen=True, eq=False)
class _Linear:
    """Linear map from the tangents of arguments to those of results, with its transpose.

    push: (primals, tangents) -> tangents of the results.
    pull: (saved, gradients of the results) -> gradients of the arguments that have tangents.
    num_primals: number of primal arrays.
    num_saved: number of saved arrays.
    types: abstract values of the results.
    """

    push: Callable[[Arrays, Arrays], list[Any]]
    pull: Callable[[Arrays, Arrays], list[Any]]
    num_primals: int
    num_saved: int
    types: tuple[Any, ...]

    def __call__(self, primals: Arrays, saved: Arrays, tangents: Arrays) -> list[Any]:
        return TANGENT.bind(*primals, *saved, *tangents, linear=self)

    def split(self, args: Arrays) -> tuple[list[Any], list[Any], list[Any]]:
        """Split arguments into primals, saved arrays and tangents."""
        args, last = list(args), self.num_primals + self.num_saved
        return args[: self.num_primals], args[self.num_primals : last], args[last:]


TANGENT = Primitive("tangent")
TANGENT.multiple_results = True


def _run(*args, linear: _Linear):
    primals, _, tangents = linear.split(args)
    return linear.push(primals, tangents)


def _transpose(gradients, *args, linear: _Linear):
    _, saved, tangents = linear.split(args)
    gradients = [
        jnp.zeros(kind.shape, kind.dtype) if isinstance(gradient, ad.Zero) else gradient
        for gradient, kind in zip(gradients, linear.types, strict=True)
    ]
    pulled = [
        gradient if ad.is_undefined_primal(tangent) else None
        for gradient, tangent in zip(linear.pull(saved, gradients), tangents, strict=True)
    ]
    return [None] * (len(args) - len(tangents)) + pulled


def _differentiate(args, slopes, linear: _Linear):
    """Differentiate the map itself, for derivatives of higher order."""
    primals, saved, tangents = linear.split(args)
    # Only the transpose reads the saved arrays.
    of_primals, _, of_tangents = linear.split(slopes)
    parts = []
    if not all(isinstance(slope, ad.Zero) for slope in of_tangents):
        parts.append(linear(primals, saved, [ad.instantiate_zeros(slope) for slope in of_tangents]))
    moving = [i for i, slope in enumerate(of_primals) if not isinstance(slope, ad.Zero)]
    if moving:

        def at(moved):
            return linear.push(_replaced(primals, moving, moved), tangents)

        at_primals = [primals[i] for i in moving], [of_primals[i] for i in moving]
        parts.append(jax.jvp(at, at_primals[:1], at_primals[1:])[1])
    if not parts:
        parts.append([ad.Zero(kind) for kind in linear.types])
    total = parts[0] if len(parts) == 1 else [a + b for a, b in zip(*parts, strict=True)]
    return linear(primals, saved, tangents), total


def _batch(args, axes, linear: _Linear):
    size = next(x.shape[axis] for x, axis in zip(args, axes, strict=True) if axis is not None)
    args = [
        x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(args, axes, strict=True)
    ]
    primals, saved, tangents = linear.split(args)
    fronts = [None if axis is None else 0 for axis in axes]
    of_primals, of_saved, of_tangents = linear.split(fronts)
    # The transpose gives one gradient per example, so it needs one tangent per example.
    tangents = [
        jnp.broadcast_to(x, (size, *x.shape)) if front is None else x
        for x, front in zip(tangents, of_tangents, strict=True)
    ]
    push = jax.vmap(linear.push, (of_primals, 0), axis_size=size)
    pull = jax.vmap(linear.pull, (of_saved, 0), axis_size=size)
    types = tuple(jax.typeof(x) for x in jax.eval_shape(push, primals, tangents))
    results = _Linear(push, pull, len(primals), len(saved), types)(primals, saved, tangents)
    return results, [0] * len(results)


TANGENT.def_impl(_run)
TANGENT.def_abstract_eval(lambda *_, linear: list(linear.types))
ad.primitive_transposes[TANGENT] = _transpose
ad.primitive_jvps[TANGENT] = _differentiate
batching.primitive_batchers[TANGENT] = _batch
mlir.register_lowering(TANGENT, mlir.lower_fun(_run, multiple_results=True))
