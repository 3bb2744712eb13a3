"""gymnasium environments, with actions and pictures as the Decision Transformer has them."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from genax.core.errors import GenaxError

ATARI = "ALE/"


def make_environment(name: str) -> Any:
    """A gymnasium environment; continuous actions are in [-1, 1], whatever its own bounds.

    Atari games ("ALE/Breakout-v5") give grey pictures uint8 [84, 84] and are played as in Chen et
    al. 2021: no sticky actions, a frame is the maximum of the last two of four, an episode starts
    with up to 30 idle steps and lasts for all lives.
    Raises GenaxError if gymnasium, the environment or what it runs on is missing.
    """
    try:
        import gymnasium
    except ImportError as error:
        raise GenaxError(
            'environments need gymnasium: python -m pip install -e ".[control]".'
        ) from error
    from gymnasium import spaces, wrappers

    try:
        if name.startswith(ATARI):
            gymnasium.register_envs(importlib.import_module("ale_py"))
            game = gymnasium.make(name, frameskip=1, repeat_action_probability=0.0)
            return wrappers.AtariPreprocessing(game, noop_max=30, frame_skip=4, screen_size=84)
        environment = gymnasium.make(name)
    except (gymnasium.error.Error, ImportError) as error:
        needs = "gymnasium[atari,other]" if name.startswith(ATARI) else "gymnasium[mujoco]"
        raise GenaxError(
            f"gymnasium has no environment {name!r} here ({error}); MuJoCo's and Atari's need "
            f"more packages: python -m pip install {needs!r}."
        ) from error
    if isinstance(environment.action_space, spaces.Box):
        environment = wrappers.RescaleAction(environment, np.float32(-1), np.float32(1))
    return environment


def check_environment(name: str, action_size: int) -> None:
    """Raise GenaxError if the environment is missing or has another number of actions."""
    environment = make_environment(name)
    space = environment.action_space
    size = int(space.n) if hasattr(space, "n") else space.shape[0]
    environment.close()
    if size != action_size:
        raise GenaxError(f"{name} has {size} actions, not {action_size}; set action_size={size}.")
