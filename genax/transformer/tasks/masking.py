"""Tokens hidden from a model that has to guess them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key


class Masked(NamedTuple):
    """Tokens of which some are hidden, with their places.

    tokens: the tokens, some of them hidden.
    places: places of the hidden tokens.
    targets: the tokens that were there.
    weights: 1 for each chosen place, 0 for places that fill up the row.
    """

    tokens: Int[Array, "b t"]
    places: Int[Array, "b k"]
    targets: Int[Array, "b k"]
    weights: Float[Array, "b k"]


def mask_tokens(
    keys: Key[Array, " b"],
    tokens: Int[Array, "b t"],
    maskable: Bool[Array, "b t"],
    vocab_size: int,
    mask_token: int,
    rate: float = 0.15,
    most: int = 20,
) -> Masked:
    """Choose places of each row and hide most of them: Devlin et al. 2018, section 3.1, app. A.1.

    Of n maskable tokens rate * n are chosen, rounded, at least one and at most `most`. Each becomes
    mask_token with probability 0.8, any token of the vocabulary with 0.1, and stays with 0.1.

    keys: one key per row.
    maskable: [b, t], which tokens may be chosen.
    """
    most = min(most, tokens.shape[1])

    def one(key, tokens, maskable):
        places_key, kind_key, token_key = jax.random.split(key, 3)
        noise = jnp.where(maskable, jax.random.uniform(places_key, tokens.shape), -1.0)
        places = lax.top_k(noise, most)[1]
        available = maskable.sum()
        count = jnp.clip(jnp.round(rate * available), 1, most)
        chosen = jnp.arange(most) < jnp.minimum(count, available)
        kind = jax.random.uniform(kind_key, (most,))
        other = jax.random.randint(token_key, (most,), 0, vocab_size, tokens.dtype)
        targets = tokens[places]
        shown = jnp.where(kind < 0.8, mask_token, jnp.where(kind < 0.9, other, targets))
        shown = jnp.where(chosen, shown, targets).astype(tokens.dtype)
        return Masked(tokens.at[places].set(shown), places, targets, chosen.astype(jnp.float32))

    return jax.vmap(one)(keys, tokens, maskable)
