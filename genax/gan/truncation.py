"""Truncated latents: images nearer to the mean, of less variety."""

from __future__ import annotations

import jax

from genax.gan.game import Draw


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
