"""Labels of classes as conditions of a network: their embeddings, their checks, the null label.

The networks have the fields `num_classes` (None means no labels), `null_class` (one more label
stands for no condition) and `dtype`. Labels of augmentations are numbers, `augmentation_labels` of
them.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from genax.core.errors import GenaxError


def null_label(network: Any) -> int:
    """Return the label that stands for no condition.

    Raises GenaxError if the network has none.
    """
    if network.num_classes is None or not network.null_class:
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
    rows, numbers = classes + network.null_class, np.asarray(label)
    wrong = numbers[(numbers < 0) | (numbers >= rows)]
    if wrong.size:
        raise GenaxError(f"{_described(network)} got label {wrong[0]}: labels are 0 to {rows - 1}.")


def embed_labels(
    network: Any, label: Int[Array, " b"], features: int
) -> Float[Array, "b features"]:
    """Return the embeddings of labels, inside the network's compact method.

    A label without a row gives NaN.
    """
    rows = network.num_classes + network.null_class
    table = nn.Embed(rows, features, dtype=network.dtype, name="labels")
    # A negative number would count from the end.
    return table(jnp.where(label < 0, rows, label))


def augmentation_of(
    network: Any, augmentation: Float[Array, "b n"] | None, like: Array
) -> Float[Array, "b n"] | None:
    """Return the labels of augmentations that a network gets: zeros if none are given.

    like: [b, ...]. None is returned for a network that takes no such labels.
    Raises GenaxError for another number of labels than the network takes.
    """
    count = network.augmentation_labels
    shape = (like.shape[0], count)
    if augmentation is None:
        return jnp.zeros(shape) if count else None
    if augmentation.shape != shape:
        raise GenaxError(
            f"{type(network).__name__}(augmentation_labels={count}) got labels of augmentations of "
            f"shape {augmentation.shape}, not {shape}: set augmentation_labels to their number."
        )
    return augmentation


def _described(network: Any) -> str:
    name, classes, null = type(network).__name__, network.num_classes, network.null_class
    return f"{name}(num_classes={classes}, null_class={null})"
