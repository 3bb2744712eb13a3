"""What networks get besides their inputs: classes, texts, other images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from genax.core.errors import GenaxError
from genax.core.task import Batch

# (nets, batch) -> further keyword arguments of a network, one entry per example. A condition may
# call other networks, such as one that encodes texts.
Condition = Callable[[nn.Module, Batch], dict[str, Any]]


def unconditional(nets: nn.Module, batch: Batch) -> dict[str, Any]:
    """No further arguments."""
    return {}


def on_label(nets: nn.Module, batch: Batch) -> dict[str, Any]:
    """The batch's class labels as the argument "label". Raises GenaxError if it has none."""
    if "label" not in batch:
        raise GenaxError(
            f"the networks get classes, but the batch has only {sorted(batch)}; give it a 'label', "
            "such as a sampler's condition `labels_in_turn`."
        )
    return {"label": batch["label"]}


def both(first: Condition, second: Condition) -> Condition:
    """Return the condition with the arguments of two."""
    return lambda nets, batch: {**first(nets, batch), **second(nets, batch)}
