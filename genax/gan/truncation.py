"""Truncated latents: images nearer to the mean, of less variety."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from genax.core import Sampler
from genax.evaluation.pictures import film_strip
from genax.gan.game import Draw
from genax.gan.latent_tools import latent_tools
from genax.gan.latents import truncation_sweep

# Those of the paper's figure 2.
THRESHOLDS = (2.0, 1.0, 0.5, 0.04)


def truncated_normal(threshold: float) -> Draw:
    """Return the draw of normal numbers that are no larger than a threshold.

    Those that are larger are drawn again (Brock et al. 2019, arXiv:1809.11096, section 3.1). With
    one key, a smaller threshold gives smaller numbers of the same order.

    threshold: 0 means none.
    """
    if not threshold:
        return jax.random.normal

    def draw(key, shape):
        return jax.random.truncated_normal(key, -threshold, threshold, shape)

    return draw


def truncation_tools(train: Any, test: Any, labels: Any, **drawn: Any) -> dict[str, Sampler]:
    """Return the samplers of `latent_tools`, and "truncation": samples by falling thresholds."""
    given = {name: drawn[name] for name in ("condition", "inputs")}
    draws = [truncated_normal(threshold) for threshold in THRESHOLDS]
    sweep = Sampler(partial(truncation_sweep, draws=draws, **given), film_strip, labels)
    return {**latent_tools(train, test, labels, **drawn), "truncation": sweep}
