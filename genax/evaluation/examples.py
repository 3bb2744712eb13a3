"""Examples of a data set that samplers are shown."""

from __future__ import annotations

from typing import Any

import numpy as np

from genax.core.data import Data, Shard, global_index, open_data


def first_images(data: Data, num: int, workdir: Any) -> dict[str, np.ndarray]:
    """Return the first images of a data set, as a sampler's condition: fewer if it has fewer."""
    batch = next(iter(open_data(data, workdir).evaluate(num, Shard())))
    images = batch["image"][batch["mask"] > 0]
    return {"image": images, "index": global_index(len(images))}
