"""Attention with JAX's fused TPU kernel, which never holds the scores."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float

from genax.core.errors import GenaxError
from genax.core.mesh import BATCH, traced_mesh
from genax.nn.rematerialise import ATTENDED

_LANES, _BLOCK = 128, 512


def splash_covers(query: Float[Array, "b t n h"], key: Float[Array, "b s k h"]) -> bool:
    """Return whether the kernel takes these lengths, and batch and heads on the traced mesh."""
    if query.shape[1] % _LANES or key.shape[1] % _LANES:
        return False
    mesh = traced_mesh()
    if mesh is None:
        # Without a mesh XLA would have to split the kernel over several devices, which it cannot.
        return jax.device_count() == 1
    parts = math.prod(mesh.shape[axis] for axis in BATCH)
    return not (len(query) % parts or key.shape[2] % mesh.shape["tensor"])


def splash_attention(
    query: Float[Array, "b t n h"],
    key: Float[Array, "b s k h"],
    value: Float[Array, "b s k h"],
    mask: Bool[Array, "b 1 s"] | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    interpret: bool = False,
) -> Float[Array, "b t n h"]:
    """Compute `attend` on a TPU, for lengths that are multiples of 128.

    On a mesh, each device works on its part of the batch ("data", "fsdp") and of the heads
    ("tensor").

    query, key, value, causal, window, scale: see `attend`.
    mask: which keys are real, [b, 1, s]. In self-attention the rows of padding get values without
      meaning.
    interpret: run without a TPU, slowly, for tests.
    Raises GenaxError for other lengths.
    """
    lengths = query.shape[1], key.shape[1]
    if any(length % _LANES for length in lengths):
        raise GenaxError(
            f'attention "splash" needs lengths that are multiples of {_LANES}, got {lengths}; '
            'pad the sequences or choose "xla".'
        )
    scaled = query * jnp.asarray(
        1 / math.sqrt(query.shape[-1]) if scale is None else scale, query.dtype
    )
    real = jnp.ones(key.shape[:2], bool) if mask is None else mask[:, 0]
    # Queries may be of another sequence than the keys. If no key is real they read padding, since a
    # softmax over nothing is NaN.
    every = jnp.broadcast_to(real.any(-1, keepdims=True), query.shape[:2])
    own = real if causal else every
    run = partial(_run, causal=causal, window=window, interpret=interpret)
    if traced_mesh() is not None:
        heads, flags = PartitionSpec(BATCH, None, "tensor"), PartitionSpec(BATCH)
        run = jax.shard_map(
            run, in_specs=(heads,) * 3 + (flags,) * 2, out_specs=heads, check_vma=False
        )
    return run(scaled, key, value, own, real)


def _run(query, key, value, own, real, causal, window, interpret):
    (t, n), s = query.shape[1:3], key.shape[1]
    one: masks.Mask = masks.FullMask((t, s))
    if causal:
        one = masks.CausalMask((t, s))
        if window is not None:
            one = masks.LocalMask((t, s), (window - 1, 0), 0)
    q, kv = (max(b for b in (128, 256, _BLOCK) if length % b == 0) for length in (t, s))
    attend = kernel.make_splash_mha(
        masks.MultiHeadMask([one] * n),
        head_shards=1,
        q_seq_shards=1,
        block_sizes=kernel.BlockSizes(
            block_q=q,
            block_kv=kv,
            block_q_dkv=q,
            block_kv_dkv=kv,
            block_q_dq=q,
            block_kv_dq=kv,
        ),
        residual_checkpoint_name=ATTENDED,
        interpret=interpret,
    )
    ids = kernel.SegmentIds(own.astype(jnp.int32), real.astype(jnp.int32))
    heads = (x.swapaxes(1, 2) for x in (query, key, value))
    return jax.vmap(attend)(*heads, ids).swapaxes(1, 2)
