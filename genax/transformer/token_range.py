"""Checks for numbers of rows that a table does not have, such as tokens of another vocabulary."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from genax.core.errors import GenaxError


def check_tokens(tokens: Int[Array, "*b"], vocab_size: int, network: str) -> Int[Array, "*b"]:
    """Apply `check_range` to the tokens of a network."""
    hint = "; the tokenizer is of another vocabulary, or padding is marked by a number of its own"
    return check_range(f"{network}: token", tokens, vocab_size, hint)


def check_range(what: str, values: Int[Array, "*b"], size: int, hint: str = "") -> Int[Array, "*b"]:
    """Return the values, which are numbers of rows of a table.

    what: name of a value, for the message.
    size: number of rows.
    hint: end of the message.
    Raises GenaxError if a value is not in [0, size). Values are not known inside a compiled
    function. There, the row of a value outside is NaN.
    """
    if isinstance(values, jax.core.Tracer):
        # A number below 0 would count from the table's end.
        return jnp.where(values < 0, size, values.astype(jnp.int32))
    found = np.asarray(values)
    wrong = (found < 0) | (found >= size)
    if wrong.any():
        place = tuple(int(axis[0]) for axis in np.nonzero(wrong))
        raise GenaxError(f"{what} {found[place]} at {list(place)} is not in [0, {size}){hint}.")
    return values
