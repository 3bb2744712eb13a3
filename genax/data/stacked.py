"""Images of several sources as the channels of one image, such as three digits in three colours."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np

from genax.core.errors import GenaxError
from genax.data.joined import Batch, Joined


class Stacked(Joined):
    """Images whose channels are those of the sources: Stacked(red=..., green=..., blue=...).

    The sources come in orders of their own, as in `Joined`. Labels are left out.
    """

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of an image. Raises GenaxError for sources of different sizes."""
        shapes = [data.element["image"].shape for _, data in self.sources]
        if len({shape[:2] for shape in shapes}) > 1:
            raise GenaxError(f"images of the shapes {shapes} are not of one size; give size=.")
        channels = sum(shape[2] for shape in shapes)
        return {"image": jax.ShapeDtypeStruct((*shapes[0][:2], channels), np.float32)}

    def join(self, batches: Mapping[str, Batch]) -> dict[str, np.ndarray]:
        """Return one batch of those of the sources."""
        joined = super().join(batches)
        images = [joined[f"{name}_image"] for name in batches]
        return {"image": np.concatenate(images, axis=-1), "id": joined["id"]}
