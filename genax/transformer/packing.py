"""Several documents in one sequence that cannot see each other."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int


def packed_mask(segments: Int[Array, "b t"]) -> Bool[Array, "b t t"]:
    """Return which keys each query may attend to: those of its own segment.

    segments: [b, t], numbers of the documents. 0 is padding.
    """
    return segments[:, :, None] == segments[:, None]


def packed_positions(segments: Int[Array, "b t"]) -> Int[Array, "b t"]:
    """Return positions that begin at 0 with each segment."""
    places = jnp.arange(segments.shape[1])
    before = jnp.pad(segments[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    starts = jnp.where(segments != before, places, 0)
    return places - lax.cummax(starts, axis=1)
