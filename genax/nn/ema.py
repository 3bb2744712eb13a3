"""Decays of exponential moving averages, as papers publish them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from genax.core.ema import Decay


def ema_warmup(decay: float) -> Decay:
    """Decay min(decay, (1 + n) / (10 + n)) at the n-th update: short runs forget their beginning.

    The first update has n = 1, as in the code of score SDEs (Song et al. 2021) and of latent
    diffusion (Rombach et al. 2022).
    """
    return lambda step: jnp.minimum(decay, (2.0 + step) / (11.0 + step))


def ema_late(decay: float, start: int) -> Decay:
    """BigGAN's decay: 0 (a copy) before update number `start`, then `decay` (Brock et al. 2019)."""
    return lambda step: jnp.where(step + 1 < start, 0.0, decay)


def ema_of_moves(decay: Decay, moves: int | Callable[[Any], Any], apart: int) -> Decay:
    """Decay of an average that stands still while what it averages does.

    decay: by the number of the move.
    moves: whether a step moves it, or the number 1 if each does.
    apart: steps from one move to the next, by which moves are counted.
    """
    if not callable(moves):
        return decay
    number: Any = decay if callable(decay) else lambda step: decay
    return lambda step: jnp.where(moves(step), number(step // apart), 1.0)


def ema_half_life(
    images: float, batch_size: int, ramp_up: float | None = None, stages: Sequence[Any] = ()
) -> Decay:
    """Decay 0.5^(batch / min(images, ramp_up * seen)), as in StyleGAN2-ADA and EDM.

    Karras et al. 2020 (StyleGAN2-ADA) and 2022 (EDM).

    images: half-life, the number of images after which half of an average is new.
    batch_size: config.batch_size.
    ramp_up: share of the images seen before the step that bounds the half-life, such as 0.05. None
      means no bound.
    stages: the task's stages, if some of them have a batch size of their own, or others with the
      fields `steps` and `batch_size`.
    """
    sizes = np.array([stage.batch_size or batch_size for stage in stages] or [batch_size])
    steps = np.array([stage.steps for stage in stages[:-1]], int)
    starts, before = np.cumsum([0, *steps]), np.cumsum([0, *(steps * sizes[:-1])])

    def at(step):
        stage = jnp.searchsorted(starts, step, side="right") - 1
        size, begun = (jnp.asarray(x, jnp.float32)[stage] for x in (sizes, before))
        seen = begun + size * (step - jnp.asarray(starts)[stage])
        bound = images if ramp_up is None else jnp.minimum(images, ramp_up * seen)
        return 0.5 ** (size / jnp.maximum(bound, 1e-8))

    return at
