"""The number of examples of a data set, if it can be known before the set is there."""

from __future__ import annotations

from typing import Any

from genax.core.errors import GenaxError
from genax.data.images import ImageData
from genax.data.sets.catalogue import known_set
from genax.data.sets.named import open_set


def examples_in(data: Any) -> int:
    """Return how many examples a data set has.

    A whole split of a set of the catalogue has the number that the catalogue states; other sets are
    opened.

    data: with a property `num_examples`; what it is made of, if that is its field `data`.
    Raises GenaxError for data that does not say it.
    """
    inner = data
    while hasattr(inner, "data"):
        inner = inner.data
    if isinstance(inner, ImageData) and inner.limit is None and open_set(inner.name).catalogued:
        counts = known_set(inner.name).counts
        if inner.split in counts:
            return counts[inner.split]
    found = getattr(data, "num_examples", None)
    if found is None:
        raise GenaxError(
            f"{data!s:.100} does not say its number of examples; give it a property num_examples, "
            "or set config.dataset_size."
        )
    return found
