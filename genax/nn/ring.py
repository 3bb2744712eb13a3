"""Attention over sequences split over devices, which pass their keys round a ring."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AbstractMesh, PartitionSpec
from jaxtyping import Array, Bool, Float

from genax.core.errors import GenaxError
from genax.core.mesh import BATCH, traced_mesh
from genax.nn.derivatives import set_reverse_rule
from genax.nn.rematerialise import ATTENDED

AXIS = "sequence"
# Number of queries whose scores exist at a time.
CHUNK = 128


def ring_attention(
    query: Float[Array, "b t n h"],
    key: Float[Array, "b s k h"],
    value: Float[Array, "b s k h"],
    mask: Bool[Array, "b 1 s"] | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
) -> Float[Array, "b t n h"]:
    """Compute `attend` with tokens split over "sequence": Liu et al. 2023, section 3.

    Each device keeps its queries, and the keys and values travel past them. A softmax is put
    together from its blocks (Milakov and Gimelshein 2018, algorithm 3) and computed again in the
    backward pass (Dao et al. 2022, appendix B.2). So memory per device grows with t / devices, not
    with its square. Batch and heads are split over the other axes if these divide them. Without a
    mesh there is one block.

    query, key, value, scale: see `attend`.
    mask: which keys are real, [b, 1, s]. The result is 0 if no key is allowed.
    causal: pass on blocks wholly in the future unread, so that the first device works least and all
      wait for the last one.
    window: see `attend`. Keys travel no further than the window reaches.
    Raises GenaxError for lengths that "sequence" does not divide.
    """
    mesh, (t, n, h), (s, k) = traced_mesh(), query.shape[1:], key.shape[1:3]
    devices = 1 if mesh is None else mesh.shape[AXIS]
    if t % devices or s % devices or (causal and t != s):
        raise GenaxError(
            f'attention "ring" splits {t} queries and {s} keys over {devices} device(s) of '
            f"{AXIS!r}, which must divide both, and causal ones must be as many as each other; "
            'pad the sequences or choose "xla".'
        )
    turns = devices
    if causal and window is not None:
        turns = min(devices, (window - 2) // (t // devices) + 2)
    query = query * jnp.asarray(1 / math.sqrt(h) if scale is None else scale, query.dtype)
    split = None
    if mesh is not None:
        tensor = mesh.shape["tensor"]
        if n % tensor == 0:
            # The fewest copies of the key heads that "tensor" divides.
            copies = next(c for c in range(1, n // k + 1) if n // k % c == 0 == k * c % tensor)
            key, value = (jnp.repeat(x, copies, axis=2) for x in (key, value))
        split = PartitionSpec(_batch(mesh, len(query)), AXIS, None if n % tensor else "tensor")
    real = None if mask is None else mask[:, 0]
    return _attend(query, key, value, real, _Ring(devices, turns, causal, window, split))


def _batch(mesh: AbstractMesh, size: int) -> tuple[str, ...] | None:
    return None if size % math.prod(mesh.shape[axis] for axis in BATCH) else BATCH


@dataclass(frozen=True)
class _Ring:
    """Layout of one ring attention.

    devices: number of devices in the ring.
    turns: number of blocks that a device reads.
    causal, window: see `attend`.
    split: how [b, t, n, h] is split over the mesh. None means no mesh.
    """

    devices: int
    turns: int
    causal: bool
    window: int | None
    split: PartitionSpec | None

    def run(self, function: Callable, outputs: int, real: Any, *args: Any) -> Any:
        """Run function(self, real, *args) on each device's part."""
        run = partial(function, self)
        if self.split is not None:
            run = jax.shard_map(
                run,
                in_specs=(PartitionSpec(*self.split[:2]), *[self.split] * len(args)),
                out_specs=(self.split,) * outputs,
                check_vma=False,
            )
        return run(real, *args)

    def send(self, block: Any, ahead: int = 1) -> Any:
        """Return the block of the device `ahead` places before."""
        if ahead % self.devices == 0:
            return block
        places = [(i, (i + ahead) % self.devices) for i in range(self.devices)]
        return jax.tree.map(lambda x: lax.ppermute(x, AXIS, places), block)

    def around(self, read: Callable, state: Any, block: Any) -> Any:
        """Apply read(state, block, turn) to each block in turn, the device's own first.

        All blocks have the same shapes.
        """

        def body(carry, turn):
            # Reading and sending are independent, so the next block travels while this one is read.
            state, block = carry
            return (read(state, block, turn), self.send(block)), None

        if self.turns > 1:
            (state, block), _ = lax.scan(body, (state, block), jnp.arange(self.turns - 1))
        return read(state, block, self.turns - 1)

    def unless_future(self, turn: Any, read: Callable, state: Any) -> Any:
        """Return read(state), or state itself if the block of this turn lies after the queries."""
        if not self.causal or self.turns == 1:
            return read(state)
        return lax.cond(turn <= lax.axis_index(AXIS), read, lambda state: state, state)

    def scores(self, query: Any, key: Any, real: Any, ahead: Any) -> Any:
        """Return the scores [b, k, g, t, s] of a chunk, and which of them are allowed.

        ahead: position of the first query minus that of the first key.
        """
        scores = jnp.einsum("bkgth,bskh->bkgts", query, key, preferred_element_type=jnp.float32)
        allowed = jnp.bool_(True) if real is None else real[:, None, None, None]
        if self.causal:
            distance = ahead + jnp.arange(scores.shape[-2])[:, None] - jnp.arange(scores.shape[-1])
            allowed &= distance >= 0
            if self.window is not None:
                allowed &= distance < self.window
        return scores, allowed


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def _attend(query, key, value, real, ring):
    return _forward(query, key, value, real, ring)[0]


def _forward(query, key, value, real, ring):
    out, total = ring.run(_read_forward, 2, real, query, key, value)
    out, total = checkpoint_name(out, ATTENDED), checkpoint_name(total, ATTENDED)
    return out, (query, key, value, real, out, total)


def _backward(ring, residuals, gradient):
    query, key, value, real, out, total = residuals
    inner = (gradient.astype(jnp.float32) * out).sum(-1)
    args = query, key, value, gradient, inner, total
    return (*ring.run(_read_backward, 3, real, *args), None)


set_reverse_rule(_attend, _forward, _backward)


def _chunks(x, heads):
    """Reshape [b, t, n, ...] to [chunks, b, k, g, chunk, ...], with zeros after the last query."""
    b, t, n, *rest = x.shape
    count = -(-t // CHUNK)
    size = -(-t // count)
    x = jnp.pad(x, ((0, 0), (0, count * size - t), *[(0, 0)] * (x.ndim - 2)))
    x = x.reshape(b, count, size, heads, n // heads, *rest)
    return x.transpose(1, 0, 3, 4, 2, *range(5, x.ndim))


def _whole(x, length):
    x = x.transpose(1, 0, 4, 2, 3, *range(5, x.ndim))
    b, count, size, k, g, *rest = x.shape
    return x.reshape(b, count * size, k * g, *rest)[:, :length]


def _read_forward(ring, real, query, key, value):
    (_, t), (s, heads) = query.shape[:2], key.shape[1:3]
    queries = _chunks(query, heads)
    starts = jnp.arange(len(queries)) * queries.shape[4]
    # The lowest score is finite, since the difference of two infinite ones is NaN.
    lowest = jnp.float32(jnp.finfo(jnp.float32).min)
    # A scan over layers moves out of its loop what depends on no input. It would keep the masks of
    # all chunks and turns.
    starts, lowest, queries = lax.optimization_barrier((starts, lowest, queries))

    def read(state, block, turn):
        key, value, real = block

        def chunk(args):
            (largest, total, out), query, start = args
            scores, allowed = ring.scores(query, key, real, turn * s + start)
            scores = jnp.where(allowed, scores, lowest)
            new = jnp.maximum(largest, scores.max(-1))
            weights = jnp.exp(scores - new[..., None]) * allowed
            kept = jnp.exp(largest - new)
            total = total * kept + weights.sum(-1)
            weights = weights.astype(value.dtype)
            more = jnp.einsum(
                "bkgts,bskh->bkgth", weights, value, preferred_element_type=jnp.float32
            )
            return new, total, out * kept[..., None] + more

        whole = lambda state: lax.map(chunk, (state, queries, starts))  # noqa: E731
        return ring.unless_future(turn, whole, state)

    zeros = jnp.zeros(queries.shape, jnp.float32)
    empty = jnp.full_like(zeros[..., 0], lowest), zeros[..., 0], zeros
    largest, total, out = ring.around(read, empty, (key, value, real))
    total = jnp.where(total > 0, total, 1)
    out = (out / total[..., None]).astype(query.dtype)
    return _whole(out, t), _whole(largest + jnp.log(total), t)


def _read_backward(ring, real, query, key, value, gradient, inner, total):
    (_, t), (s, heads) = query.shape[:2], key.shape[1:3]
    rows = tuple(_chunks(x, heads) for x in (query, gradient, inner, total))
    starts = jnp.arange(len(rows[0])) * rows[0].shape[4]

    def read(state, block, turn):
        key, value, real = block
        dquery, dkey, dvalue = state

        def chunk(dblock, args):
            (query, gradient, inner, total), start, dquery = args
            dkey, dvalue = dblock
            product = partial(jnp.einsum, preferred_element_type=jnp.float32)
            scores, allowed = ring.scores(query, key, real, turn * s + start)
            weights = jnp.where(allowed, jnp.exp(scores - total[..., None]), 0)
            dweights = product("bkgth,bskh->bkgts", gradient, value)
            dscores = (weights * (dweights - inner[..., None])).astype(query.dtype)
            weights = weights.astype(value.dtype)
            dquery += product("bkgts,bskh->bkgth", dscores, key)
            dkey += product("bkgts,bkgth->bskh", dscores, query)
            dvalue += product("bkgts,bkgth->bskh", weights, gradient)
            return (dkey, dvalue), dquery

        def whole(state):
            dquery, dkey, dvalue = state
            dblock, dquery = lax.scan(chunk, (dkey, dvalue), (rows, starts, dquery))
            return dquery, *dblock

        # A block's gradients follow it one turn late, so that they travel while it is read.
        return ring.unless_future(turn, whole, (dquery, *ring.send((dkey, dvalue))))

    zeros = tuple(jnp.zeros(x.shape, jnp.float32) for x in (rows[0], key, value))
    dquery, *dblock = ring.around(read, zeros, (key, value, real))
    dkey, dvalue = ring.send(dblock, ahead=1 - ring.turns)
    return _whole(dquery, t).astype(query.dtype), dkey.astype(key.dtype), dvalue.astype(value.dtype)
