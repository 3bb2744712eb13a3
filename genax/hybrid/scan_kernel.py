"""A chunk of the selective scan as one kernel of Pallas, for TPUs and GPUs.

The states of the chunk's tokens stay in the chip's own memory. A program works on one sequence and
a block of channels. Rows of B and C, [1, n], become columns by a product with the identity and a
sum, as neither compiler turns a row of 16 numbers by itself.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.core.mesh import platform

# Channels of a program. On a GPU it is one block of threads, whose registers hold a state.
_BLOCKS = {"tpu": (512, 256, 128), "gpu": (128, 64, 32)}


def scan_chunk(
    A: Float[Array, "n d"],
    state: Float[Array, "b n d"],
    x: Float[Array, "b t d"],
    time_step: Float[Array, "b t d"],
    B: Float[Array, "b t n"],
    C: Float[Array, "b t n"],
) -> tuple[Float[Array, "b n d"], Float[Array, "b t d"]]:
    """Return the state after a chunk, and y. On a CPU the kernel is interpreted, slowly."""

    def kernel(A, B, C, state, x, time_step, end, y):
        def token(t, now):
            row = _row(t)
            now = _advance(now, A[...], x[row], time_step[row], B[row])
            y[row] = (now * _column(C[row])).sum(0, keepdims=True)
            return now

        end[...] = lax.fori_loop(0, x.shape[0], token, state[...])

    end, y = _call(kernel, A, (B, C), (state, x, time_step), (state, x))
    return end, y


def scan_chunk_back(
    A: Float[Array, "n d"],
    state: Float[Array, "b n d"],
    x: Float[Array, "b t d"],
    time_step: Float[Array, "b t d"],
    B: Float[Array, "b t n"],
    C: Float[Array, "b t n"],
    dend: Float[Array, "b n d"],
    dy: Float[Array, "b t d"],
) -> tuple[Array, ...]:
    """Return the gradients of A, state, x, time_step, B and C.

    dend, dy: gradients of the state after the chunk and of y.
    """

    def kernel(A, B, C, state, x, time_step, dend, dy, *results):
        dA, dstate, dx, dtime_step, dB, dC, states = results
        length = x.shape[0]

        def again(t, now):
            row = _row(t)
            states[t] = now
            return _advance(now, A[...], x[row], time_step[row], B[row])

        lax.fori_loop(0, length, again, state[...])

        def token(number, carry):
            dnow, dA = carry
            t = length - 1 - number
            row = _row(t)
            before, step, b = states[t], time_step[row], _column(B[row])
            dnow = dnow + _column(C[row]) * dy[row]
            decay, written = jnp.exp(step * A[...]), step * x[row]
            dC[row] = _as_row(((decay * before + written * b) * dy[row]).sum(1, keepdims=True))
            dB[row] = _as_row((dnow * written).sum(1, keepdims=True))
            dwritten = (dnow * b).sum(0, keepdims=True)
            dnow = dnow * decay
            dexponent = dnow * before
            dx[row] = dwritten * step
            dtime_step[row] = (dexponent * A[...]).sum(0, keepdims=True) + dwritten * x[row]
            return dnow, dA + dexponent * step

        start = dend[...], jnp.zeros(A.shape, A.dtype)
        dstate[...], dA[...] = lax.fori_loop(0, length, token, start)

    wide = (state, x, time_step, dend, dy)
    found = _call(kernel, A, (B, C), wide, (state, state, x, x), (B, C), x.shape[1])
    dA, dstate, dx, dtime_step, dB, dC = found
    return dA.sum(0), dstate, dx, dtime_step, dB, dC


def _advance(state, A, x, time_step, B):
    return jnp.exp(time_step * A) * state + _column(B) * (time_step * x)


def _row(t):
    return pl.ds(t, 1), slice(None)


def _identity(n):
    places = partial(lax.broadcasted_iota, jnp.int32, (n, n))
    return places(0) == places(1)


def _column(row):
    """[1, n] as [n, 1]."""
    return jnp.where(_identity(row.shape[1]), row, 0).sum(1, keepdims=True)


def _as_row(column):
    """[n, 1] as [1, n]."""
    return jnp.where(_identity(column.shape[0]), column, 0).sum(0, keepdims=True)


def _call(kernel, A, shared, wide, wide_like, shared_like=(), states=0):
    """Run kernel(A, shared, wide, results) over sequences and blocks of channels.

    shared: [b, t, n], for all channels. wide: [b, rows, d], of each program a block of channels.
    wide_like, shared_like: arrays that the results are like. Those like shared ones are summed over
      the blocks.
    states: how many states of a block the kernel writes down and nobody else reads.
    """
    n, d = A.shape
    b = len(shared[0])
    place = platform()
    if place == "gpu" and (d % min(_BLOCKS[place]) or n & (n - 1)):
        raise GenaxError(
            f"scan=pallas on a GPU takes channels that {min(_BLOCKS[place])} divides and a power "
            f"of two of states, not {d} and {n}; choose other sizes, or scan=xla."
        )
    block = next((size for size in _BLOCKS.get(place, ()) if d % size == 0), d)

    def whole(array):
        return pl.BlockSpec((None, *array.shape[1:]), lambda i, j: (i, 0, 0))

    def part(array):
        return pl.BlockSpec((None, array.shape[1], block), lambda i, j: (i, 0, j))

    shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in wide_like]
    specs = [part(array) for array in wide_like]
    for array in shared_like:
        shapes.append(jax.ShapeDtypeStruct((b, d // block, *array.shape[1:]), array.dtype))
        specs.append(pl.BlockSpec((None, None, *array.shape[1:]), lambda i, j: (i, j, 0, 0)))
    scratch: list[Any] = []
    if states and place == "gpu":
        # Triton has no memory that a program can index.
        shapes.append(jax.ShapeDtypeStruct((b, states, n, d), A.dtype))
        specs.append(pl.BlockSpec((None, states, n, block), lambda i, j: (i, 0, 0, j)))
    elif states:
        scratch.append(pltpu.VMEM((states, n, block), A.dtype))
    found = pl.pallas_call(
        kernel,
        out_shape=shapes,
        grid=(b, d // block),
        in_specs=[
            pl.BlockSpec((n, block), lambda i, j: (0, j)),
            *map(whole, shared),
            *map(part, wide),
        ],
        out_specs=specs,
        scratch_shapes=scratch,
        compiler_params=triton.CompilerParams() if place == "gpu" else None,
        interpret=place == "cpu",
    )(A, *shared, *wide)
    last = len(wide_like) + len(shared_like)
    return [*found[: len(wide_like)], *(one.sum(1) for one in found[len(wide_like) : last])]
