"""A decoder of grids: of as many values as a grid has places, one after the other."""

from __future__ import annotations

from typing import Any

from jaxtyping import Array, Float
from ml_collections import ConfigDict

from genax.settings import from_config
from genax.transformer.gpt import GPT


class GridDecoder(GPT):
    """GPT whose first token says that a grid begins, or of which class it is.

    Tokens are the values, and behind them one of the beginning for each class. Only values have
    logits, so the probabilities of all grids add up to 1. The order is that of Image GPT (Chen et
    al. 2020, section 2), row by row.

    num_values: values of a place.
    """

    num_values: int = 2

    def logits(self, hidden: Float[Array, "b t d"]) -> Float[Array, "b t values"]:
        """Return scores of the values."""
        return super().logits(hidden)[..., : self.num_values]


def grid_decoder(
    config: ConfigDict, length: int, num_values: int, num_classes: int = 0, **own: Any
) -> GridDecoder:
    """Return the decoder of grids of so many places and values, with the settings of its fields.

    num_classes: 0 is no classes.
    own: further fields.
    """
    return from_config(
        GridDecoder,
        config,
        vocab_size=num_values + max(1, num_classes),
        # `generate` counts a position for the last value too.
        context=length + 1,
        num_values=num_values,
        **own,
    )
