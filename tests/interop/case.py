"""What is compared of a class of another library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

BATCH = 3


@dataclass(frozen=True)
class Case:
    """A class of transformers or diffusers, its configurations, and the inputs that it gets.

    config: the class of its configuration in transformers; None in diffusers, where the class takes
      the settings itself. inputs: (rng, config) -> arrays under their Hugging Face names, images
      with their channels last. outputs: fields to compare, of which the loss is always one where
      there are labels. copies: model -> modules that have to be equal.
    """

    name: str
    config: str | None
    sizes: tuple[Mapping[str, Any], ...]
    inputs: Callable[[np.random.Generator, Any], dict[str, np.ndarray]]
    outputs: tuple[str, ...] = ("logits",)
    base: Mapping[str, Any] = field(default_factory=dict)
    copies: Callable[[Any], Sequence[Any]] = lambda model: ()

    @property
    def library(self) -> str:
        """The package that has the class."""
        return "diffusers" if self.config is None else "transformers"
