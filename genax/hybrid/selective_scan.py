"""The selective scan of Mamba, in chunks that the backward pass computes again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.core.mesh import BATCH, traced_mesh
from genax.nn.derivatives import set_reverse_rule

# A pass of t tokens keeps t / CHUNK states, and a chunk those of its tokens. On a CPU chunks of 32
# and 64 are fastest.
CHUNK = 64
KERNELS = ("xla", "pallas")


def selective_scan(
    x: Float[Array, "b t d"],
    time_step: Float[Array, "b t d"],
    A: Float[Array, "d n"],
    B: Float[Array, "b t n"],
    C: Float[Array, "b t n"],
    state: Float[Array, "b n d"] | None = None,
    chunk: int = CHUNK,
    kernel: str = "xla",
) -> tuple[Float[Array, "b t d"], Float[Array, "b n d"]]:
    """Compute h_t = exp(dt_t A) h_(t-1) + dt_t B_t x_t and y_t = C_t h_t for each channel.

    Gu & Dao 2023, eq. 2 and algorithm 2: A is discretised by zero-order hold, B by Euler's rule. A
    token is one step of work, so n tokens take n steps, one after another. Memory never holds the
    states of all tokens: the pass keeps the state before each chunk, and the backward pass
    computes the states of one chunk again at a time. The recurrence is float32 for narrower types.

    x: [b, t, d], the inputs of d channels.
    time_step: [b, t, d], dt. A token whose dt is 0 leaves the state as it is.
    A: [d, n], of each channel's n states.
    B, C: [b, t, n], how each token writes to the states and reads them, for all channels.
    state: [b, n, d], the state before the first token. None means zeros.
    chunk: tokens of a chunk. The last chunk is filled up by tokens whose dt is 0.
    kernel: "xla", or "pallas" for a kernel by which a TPU or a GPU computes a chunk. Its forward
      mode is XLA's. JAX has no gradient of its gradient; "xla" has all.
    Returns y [b, t, d] and the state after the last token, both at least float32.
    Raises GenaxError for an unknown kernel, and for channels that "tensor" does not divide if a
    Pallas kernel is to compute them.
    """
    if kernel not in KERNELS:
        raise GenaxError(f"scan={kernel!r} is unknown; choose one of {', '.join(KERNELS)}.")
    kind = jnp.promote_types(x.dtype, jnp.float32)
    x, time_step, A, B, C = (part.astype(kind) for part in (x, time_step, A.T, B, C))
    (b, t, d), n = x.shape, len(A)
    state = jnp.zeros((b, n, d), kind) if state is None else state.astype(kind)
    if t == 1:
        state = _advance(state, x[:, 0], time_step[:, 0], A, B[:, 0])
        return _read(state, C[:, 0])[:, None], state
    size = min(chunk, t)
    fill = -t % size

    def split(part):
        part = jnp.pad(part, ((0, 0), (0, fill), (0, 0)))
        return part.reshape(b, -1, size, part.shape[-1]).swapaxes(0, 1)

    run, mesh = partial(_scan, kernel=kernel), traced_mesh()
    if mesh is not None and d % mesh.shape["tensor"] == 0:
        # "fsdp" splits A as a parameter, which would be sent to all devices for each token.
        A = lax.with_sharding_constraint(A, PartitionSpec(None, "tensor"))
    elif mesh is not None and kernel == "pallas":
        raise GenaxError(
            f"scan=pallas: a mesh with tensor={mesh.shape['tensor']} cannot share out {d} channels "
            "evenly; choose another mesh, or scan=xla."
        )
    if kernel == "pallas" and mesh is not None:
        # XLA cannot divide a kernel, so each device runs it on its own sequences and channels.
        wide = PartitionSpec(None, BATCH, None, "tensor")
        shared, first = PartitionSpec(None, BATCH), PartitionSpec(BATCH, None, "tensor")
        places = (wide, wide, PartitionSpec(None, "tensor"), shared, shared, first)
        run = jax.shard_map(run, in_specs=places, out_specs=(wide, first), check_vma=False)
    y, state = run(split(x), split(time_step), A, split(B), split(C), state)
    return y.swapaxes(0, 1).reshape(b, t + fill, d)[:, :t], state


def _advance(state, x, time_step, A, B):
    """The state after a token. States are [b, n, d], so that channels are the last axis."""
    return jnp.exp(time_step[:, None] * A) * state + (time_step * x)[:, None] * B[..., None]


def _read(state, C):
    return (state * C[..., None]).sum(1)


def _tokens(*parts):
    """[b, t, ...] as rows of tokens, [t, b, ...]."""
    return tuple(part.swapaxes(0, 1) for part in parts)


def _chunk(A, state, x, time_step, B, C):
    """Arrays of a chunk -> the state after it, y."""

    def one(state, token):
        x, time_step, B, C = token
        state = _advance(state, x, time_step, A, B)
        return state, _read(state, C)

    state, y = lax.scan(one, state, _tokens(x, time_step, B, C))
    return state, *_tokens(y)


def _chunk_back(A, state, x, time_step, B, C, dend, dy):
    """Gradients of the arguments of `_chunk`, from those of its results."""

    def again(state, token):
        x, time_step, B = token
        return _advance(state, x, time_step, A, B), state

    def one(carry, token):
        # Gradients of the state after this token, and so far of A by each sequence. A sum over
        # sequences here would be sent between devices for each token.
        dstate, dA = carry
        state, x, time_step, B, C, dy = token
        dstate = dstate + C[..., None] * dy[:, None]
        decay = jnp.exp(time_step[:, None] * A)
        written = time_step * x
        dC = ((decay * state + written[:, None] * B[..., None]) * dy[:, None]).sum(-1)
        dB = (dstate * written[:, None]).sum(-1)
        dwritten = (dstate * B[..., None]).sum(1)
        dstate = dstate * decay
        dexponent = dstate * state
        dA = dA + dexponent * time_step[:, None]
        dtime_step = (dexponent * A).sum(1) + dwritten * x
        return (dstate, dA), (dwritten * time_step, dtime_step, dB, dC)

    x, time_step, B, C, dy = _tokens(x, time_step, B, C, dy)
    states = lax.scan(again, state, (x, time_step, B))[1]
    rows = states, x, time_step, B, C, dy
    (dstate, dA), found = lax.scan(one, (dend, jnp.zeros_like(dend)), rows, reverse=True)
    return dA.sum(0), dstate, *_tokens(*found)


def _by(kernel: str, plain: Callable) -> Callable:
    """`_chunk` or `_chunk_back` by a kernel; its derivatives are those of the plain function."""
    if kernel == "xla":
        return plain
    # Pallas is not imported until it is asked for.
    from genax.hybrid.scan_kernel import scan_chunk, scan_chunk_back

    fused = jax.custom_jvp(scan_chunk if plain is _chunk else scan_chunk_back)
    fused.defjvp(lambda primals, tangents: jax.jvp(plain, primals, tangents))
    return fused


@partial(jax.custom_jvp, nondiff_argnums=(6,))
def _scan(x, time_step, A, B, C, state, kernel):
    """Chunks [chunks, b, t, ...] -> outputs of that shape, the last state."""
    return _forward(x, time_step, A, B, C, state, kernel)[0]


def _forward(x, time_step, A, B, C, state, kernel):
    chunk = _by(kernel, _chunk)

    def step(state, rows):
        end, y = chunk(A, state, *rows)
        return end, (y, state)

    end, (y, before) = lax.scan(step, state, (x, time_step, B, C))
    return (y, end), (x, time_step, A, B, C, before)


def _backward(kernel, saved, gradients):
    x, time_step, A, B, C, before = saved
    dy, dend = gradients
    chunk_back = _by(kernel, _chunk_back)

    def step(carry, rows):
        dend, dA = carry
        *arrays, dy = rows
        more, dstate, *found = chunk_back(A, *arrays, dend, dy)
        return (dstate, dA + more), found

    rows = before, x, time_step, B, C, dy
    start = dend, jnp.zeros_like(A)
    (dstate, dA), (dx, dtime_step, dB, dC) = lax.scan(step, start, rows, reverse=True)
    return dx, dtime_step, dA, dB, dC, dstate


set_reverse_rule(_scan, _forward, _backward)
