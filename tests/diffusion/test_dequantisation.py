"""Levels spread over their intervals, for likelihoods and for the loss of NCSN."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from genax.core import Loss
from genax.diffusion.dequantisation import on_dequantised
from tests.diffusion.toys import WavyDenoiser, run


def test_a_loss_sees_points_of_each_level():
    """Level k of 17 becomes uniform in [k, k + 1] / 17 of the way from -1 to 1."""
    levels = np.random.default_rng(0).integers(0, 17, (500, 2, 2, 1))
    batch = {"image": jnp.asarray(levels / 8 - 1, jnp.float32), "index": jnp.arange(500)}
    loss = on_dequantised(lambda nets, batch: Loss(batch["image"]), num_levels=17)
    seen = (np.asarray(run(loss, WavyDenoiser(), batch).values) + 1) / 2 * 17
    inside = seen - levels
    assert inside.min() > -1e-4
    assert inside.max() < 1 + 1e-4
    assert abs(inside.mean() - 0.5) < 0.03
    assert abs(inside.std() - 12**-0.5) < 0.02
