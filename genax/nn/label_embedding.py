"""Embeddings of class labels, with one for no label."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Int

from genax.core.errors import GenaxError


def null_label(network: Any) -> int:
    """Return the label that stands for no condition.

    network: one with the fields num_classes, which is None without labels, and null_class, whether
      there is one more label for no condition.
    Raises GenaxError if the network has none.
    """
    if network.num_classes is None or not network.null_class:
        raise GenaxError(
            f"{_named(network)} has no label for no condition, which guidance and dropped labels "
            "need: set num_classes and null_class=True."
        )
    return network.num_classes


def check_label(network: Any, label: Any) -> None:
    """Refuse a label that is missing, superfluous or, outside of jit, without a row.

    network: see `null_label`.
    Raises GenaxError for one of these.
    """
    if (label is None) != (network.num_classes is None):
        how = "without" if label is None else "with"
        raise GenaxError(
            f"{type(network).__name__}(num_classes={network.num_classes}) was called {how} a "
            "label: set num_classes and give a label, or neither."
        )
    if label is None or network.num_classes is None or isinstance(label, jax.core.Tracer):
        return
    rows = network.num_classes + network.null_class
    numbers = np.asarray(label)
    wrong = numbers[(numbers < 0) | (numbers >= rows)]
    if wrong.size:
        raise GenaxError(f"{_named(network)} got label {wrong[0]}: labels are 0 to {rows - 1}.")


class LabelEmbedding(nn.Module):
    """A table with a row for each label.

    rows: number of labels.
    features: width of a row.
    """

    rows: int
    features: int
    embedding_init: Initializer = nn.initializers.normal(0.02)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, label: Int[Array, " b"]) -> Float[Array, "b features"]:
        """Return the rows of the labels. A label without a row gives NaN."""
        table = self.param("embedding", self.embedding_init, (self.rows, self.features))
        # A negative number would count from the end.
        label = jnp.where(label < 0, self.rows, label)
        return table.astype(self.dtype).at[label].get(mode="fill", fill_value=jnp.nan)


def _named(network: Any) -> str:
    name, classes = type(network).__name__, network.num_classes
    return f"{name}(num_classes={classes}, null_class={network.null_class})"
