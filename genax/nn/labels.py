"""Labels of classes as conditions of a network: their embeddings, their checks, the null label.

The networks have the fields `num_classes` (None means no labels) and `dtype`, and those with a
null label `null_class` (one more label stands for no condition).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.linear import default_embed_init
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Int

from genax.core.errors import GenaxError


def null_label(network: Any) -> int:
    """Return the label that stands for no condition.

    Raises GenaxError if the network has none.
    """
    if network.num_classes is None or not _null_class(network):
        raise GenaxError(
            f"{_described(network)} has no label for no condition, which guidance and dropped "
            "labels need: set num_classes and null_class=True."
        )
    return network.num_classes


def check_label(network: Any, label: Array | None) -> None:
    """Check that there is a label if and only if the network takes one, and that it has a row.

    Raises GenaxError if not. Rows are checked outside of jit only.
    """
    name, classes = type(network).__name__, network.num_classes
    if (label is None) != (classes is None):
        how = "without" if label is None else "with"
        raise GenaxError(
            f"{name}(num_classes={classes}) was called {how} a label: set num_classes and give a "
            "label, or neither."
        )
    if label is None or isinstance(label, jax.core.Tracer):
        return
    rows, numbers = _rows(network), np.asarray(label)
    wrong = numbers[(numbers < 0) | (numbers >= rows)]
    if wrong.size:
        raise GenaxError(f"{_described(network)} got label {wrong[0]}: labels are 0 to {rows - 1}.")


def embed_labels(
    network: Any,
    label: Int[Array, " b"],
    features: int,
    embedding_init: Initializer = default_embed_init,
) -> Float[Array, "b features"]:
    """Return the embeddings of labels, inside the network's compact method.

    A label without a row gives NaN.
    """
    rows = _rows(network)
    table = nn.Embed(
        rows, features, embedding_init=embedding_init, dtype=network.dtype, name="labels"
    )
    # A negative number would count from the end.
    return table(jnp.where(label < 0, rows, label))


def one_hot(network: Any, label: Int[Array, " b"]) -> Float[Array, "b classes"]:
    """Return a 1 in the column of each label and 0 in all others; NaN for a label without one."""
    rows = _rows(network)
    known = (label >= 0) & (label < rows)
    columns = jax.nn.one_hot(label, rows, dtype=network.dtype)
    return jnp.where(known[:, None], columns, jnp.nan)


def _null_class(network: Any) -> bool:
    return getattr(network, "null_class", False)


def _rows(network: Any) -> int:
    return network.num_classes + _null_class(network)


def _described(network: Any) -> str:
    name, classes, null = type(network).__name__, network.num_classes, _null_class(network)
    return f"{name}(num_classes={classes}, null_class={null})"
