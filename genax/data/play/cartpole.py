"""CartPole for experiments: a rule that plays it, and pictures of it."""

from __future__ import annotations

import numpy as np

# Of the scene, in metres: half of what a picture shows across and up.
_HALF = 2.6
_GROUND = 0.8  # below the middle
_CART = (0.35, 0.2)  # half its width and height
_POLE, _THICK = 1.6, 0.12


def lean(state: np.ndarray) -> int:
    """The action towards where the pole leans and turns; 500 steps without noise."""
    _, _, angle, turning = state
    return int(angle + 0.5 * turning > 0)


def draw_cartpole(states: np.ndarray, size: int = 84) -> np.ndarray:
    """States [n, 4] as grey pictures uint8 [n, size, size]: cart and pole, white on black.

    A picture shows no speed: that takes two of them.
    """
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    across, up = axis[None, None] * _HALF, -axis[None, :, None] * _HALF + _GROUND
    place, angle = (np.asarray(states, np.float32)[:, i, None, None] for i in (0, 2))
    cart = (np.abs(across - place) < _CART[0]) & (np.abs(up) < _CART[1])
    # Along the pole and beside it, from where it is fixed.
    sine, cosine = np.sin(angle), np.cos(angle)
    along = (across - place) * sine + up * cosine
    beside = (across - place) * cosine - up * sine
    # Grey at its edges, so that an angle below the width of a pixel is seen too.
    softness = 2 * _HALF / size
    pole = np.clip((_THICK - np.abs(beside)) / softness + 0.5, 0, 1)
    pole = np.where((along > 0) & (along < _POLE), pole, 0)
    return np.where(cart, 128, 255 * pole).astype(np.uint8)
