"""Conditions of samplers: what samples are made of, or for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from genax.core.data import Data, Shard, global_index, open_data


def first_images(data: Data, num: int, workdir: Any) -> dict[str, np.ndarray]:
    """Return the first images of a data set, fewer if it has fewer."""
    return first_examples(data, num, workdir, ("image",))


def first_examples(
    data: Data, num: int, workdir: Any, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return the named arrays of the first examples of a data set, fewer if it has fewer."""
    batch = next(iter(open_data(data, workdir).evaluate(num, Shard())))
    found = {name: batch[name][batch["mask"] > 0] for name in names}
    return {**found, "index": global_index(len(found[names[0]]))}


def labels_in_turn(classes: int) -> Callable[[int, Any], dict[str, np.ndarray]]:
    """Condition of samples whose labels are 0, 1, ... classes - 1, and again."""
    return lambda num, workdir: {"label": np.arange(num, dtype=np.int32) % classes}
