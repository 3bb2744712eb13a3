"""The state space duality of Mamba-2: products within chunks, a recurrence between them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# The official code's and transformers'.
CHUNK = 256


def state_space_dual(
    x: Float[Array, "b t h p"],
    time_step: Float[Array, "b t h"],
    A: Float[Array, " h"],
    B: Float[Array, "b t g n"],
    C: Float[Array, "b t g n"],
    state: Float[Array, "b h p n"] | None = None,
    chunk: int = CHUNK,
) -> tuple[Float[Array, "b t h p"], Float[Array, "b h p n"]]:
    """Compute S_t = exp(dt_t A) S_(t-1) + dt_t x_t B_t^T and y_t = S_t C_t for each head.

    Dao & Gu 2024, eq. 16 and section 6: within a chunk, y = (L o C B^T) (dt x), where L_ij is
    exp(dt_(j+1) A + ... + dt_i A) for j <= i and 0 otherwise, so a chunk is products of matrices.
    Chunks come one after another and hand on the state. The backward pass computes a chunk again,
    so that scores [b, h, chunk, chunk] exist for one of them at a time. Sums of exponents,
    their exponentials, sums of products and the state are float32 for narrower types; what is
    multiplied has the type of x.

    x: [b, t, h, p], inputs of h heads.
    time_step: [b, t, h], dt. A token whose dt is 0 leaves the state as it is.
    A: [h].
    B, C: [b, t, g, n], how each token writes to the states and reads them. h / g heads share one.
    state: [b, h, p, n], the state before the first token. None means zeros.
    chunk: tokens of a chunk. The last chunk is filled up by tokens whose dt is 0.
    Returns y [b, t, h, p] and the state after the last token, both at least float32.
    """
    kind = jnp.promote_types(x.dtype, jnp.float32)
    (b, t, h, p), (g, n) = x.shape, B.shape[2:]
    grouped = (b, g, h // g, p, n)
    now = jnp.zeros(grouped, kind) if state is None else state.reshape(grouped).astype(kind)
    x = x.reshape(b, t, g, h // g, p)
    time_step = time_step.reshape(b, t, g, h // g).astype(kind)
    exponent = time_step * A.reshape(g, h // g).astype(kind)
    written = (x * time_step[..., None]).astype(x.dtype)
    if t == 1:
        new = _product("bgn,bgkp->bgkpn", B[:, 0], written[:, 0], kind)
        now = jnp.exp(exponent[:, 0])[..., None, None] * now + new
        y = _product("bgn,bgkpn->bgkp", C[:, 0], now, kind)[:, None]
        return y.reshape(b, 1, h, p), now.reshape(b, h, p, n)
    size = min(chunk, t)
    fill = -t % size

    def split(part):
        part = jnp.pad(part, ((0, 0), (0, fill), *((0, 0),) * (part.ndim - 2)))
        return jnp.moveaxis(part.reshape(b, -1, size, *part.shape[2:]), 1, 0)

    rows = tuple(map(split, (written, exponent, B, C)))
    now, y = lax.scan(jax.checkpoint(_chunk, prevent_cse=False), now, rows)
    y = jnp.moveaxis(y, 0, 1).reshape(b, t + fill, h, p)[:, :t]
    return y, now.reshape(b, h, p, n)


def _chunk(state, rows):
    """The state after a chunk, and y [b, l, g, k, p]: k heads share a group's B and C."""
    x, exponent, B, C = rows
    kind, length = state.dtype, x.shape[1]
    total = jnp.cumsum(exponent, axis=1)
    by_head = jnp.moveaxis(total, 1, -1)
    # From the end of token j to that of token i. The exponential of what lies above the diagonal
    # could be infinite.
    between = by_head[..., :, None] - by_head[..., None, :]
    seen = jnp.tril(jnp.ones((length, length), bool))
    decay = jnp.exp(jnp.where(seen, between, -jnp.inf))
    scores = _product("bign,bjgn->bgij", C, B, kind)[:, :, None] * decay
    y = _product("bgkij,bjgkp->bigkp", scores.astype(x.dtype), x, kind)
    before = _product("bign,bgkpn->bigkp", C, state.astype(x.dtype), kind)
    y = y + jnp.exp(total)[..., None] * before
    left = jnp.exp(total[:, -1:] - total)
    new = _product("bjgn,bjgkp->bgkpn", B, (x * left[..., None]).astype(x.dtype), kind)
    return jnp.exp(total[:, -1])[..., None, None] * state + new, y


def _product(axes, left, right, kind):
    # Of float32 a TPU would multiply 8 bits.
    return jnp.einsum(axes, left, right, precision="highest", preferred_element_type=kind)
