"""Token numbers that no embedding has."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from genax.core.errors import GenaxError


def check_tokens(tokens: Int[Array, "*b"], vocab_size: int, network: str) -> Int[Array, "*b"]:
    """The tokens. Raises GenaxError where one is outside [0, vocab_size).

    Inside a compiled function values are not known; there, such a token's embedding is NaN.
    """
    if isinstance(tokens, jax.core.Tracer):
        # A number below 0 would count from the table's end.
        return jnp.where(tokens < 0, vocab_size, tokens.astype(jnp.int32))
    if tokens.size == 0:
        return tokens
    found = np.asarray(tokens)
    wrong = (found < 0) | (found >= vocab_size)
    if wrong.any():
        place = tuple(int(axis[0]) for axis in np.nonzero(wrong))
        raise GenaxError(
            f"{network}: token {found[place]} at {list(place)} is not in [0, {vocab_size}); the "
            "tokenizer is of another vocabulary, or padding is marked by a number of its own."
        )
    return tokens
