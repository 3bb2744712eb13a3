"""Pendulum for experiments: a rule that swings it up and holds it."""

from __future__ import annotations

import numpy as np

_GRAVITY = 15.0  # the acceleration 3 g / (2 l) at a right angle


def swing_up(state: np.ndarray) -> np.ndarray:
    """The torque [1], in [-1, 1]: near the top a spring, elsewhere what brings its energy.

    state: (cosine, sine, speed) of the angle from the top. The energy rule is Astrom & Furuta
    2000, "Swinging up a pendulum by energy control", eq. 8.
    """
    cosine, sine, speed = state
    if cosine > 0.9:
        torque = -(10.0 * sine + 2.0 * speed) / 2
    else:
        missing = _GRAVITY * (1 - cosine) - 0.5 * speed**2
        torque = np.sign(missing * (speed if abs(speed) > 1e-2 else 1.0))
    return np.clip(np.array([torque], np.float32), -1, 1)
