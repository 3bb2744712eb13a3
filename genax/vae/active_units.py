"""The dimensions of a latent that an encoder uses (Burda et al. 2016, section 5.2)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

from genax.core.task import Batch, Evaluator
from genax.nn.conditions import Condition, unconditional

# The variance of its posterior mean above which a dimension is active.
THRESHOLD = 0.01


def posterior_means(
    nets: nn.Module, batch: Batch, condition: Condition = unconditional
) -> Float[Array, "b z"]:
    """Return the mean of each image's posterior."""
    return nets.encoder(batch["image"], **condition(nets, batch)).mean


def count_active(means: Float[np.ndarray, "n z"], workdir: Any = None) -> Mapping[str, float]:
    """Return how many dimensions have posterior means of a variance above `THRESHOLD`."""
    variances = np.asarray(means, np.float64).var(0)
    return {"active_units": float((variances > THRESHOLD).sum())}


def active_units(condition: Condition = unconditional) -> Evaluator:
    """Return the evaluator that counts active dimensions over the evaluation data."""
    return Evaluator(partial(posterior_means, condition=condition), count_active)
