"""Dequantisation: the levels of pixels spread evenly over their intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core import Loss, per_example
from genax.core.task import Batch


def dequantised(nets: nn.Module, batch: Batch, num_levels: int) -> Float[Array, "b ..."]:
    """Return images in which level k is uniform in [k, k + 1] / num_levels, scaled to [-1, 1].

    batch["image"]: [b, h, w, c] in [-1, 1], snapped to the nearest of evenly spaced levels.
    """
    image = batch["image"]
    level = jnp.round((image + 1) / 2 * (num_levels - 1))
    uniform = per_example(jax.random.uniform, nets, batch, image.shape[1:])
    return (level + uniform) / num_levels * 2 - 1


def on_dequantised(loss: Callable[..., Loss], num_levels: int) -> Callable[..., Loss]:
    """Loss of dequantised images, as the code of NCSN has it.

    loss: (nets, batch, **arguments), such as `denoising_loss` with its process.
    """

    def of_levels(nets: nn.Module, batch: Batch, **arguments: Any) -> Loss:
        return loss(nets, {**batch, "image": dequantised(nets, batch, num_levels)}, **arguments)

    return of_levels
