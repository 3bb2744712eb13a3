"""When a generator moves: schedules for `Phase.every`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Turns = Callable[[Any], Any]

# The numbers of the official code of WGAN.
LONG, FIRST, PERIOD = 100, 25, 500


def after(critic_steps: int) -> int | Turns:
    """Return the steps of a generator that moves after so many moves of the critic."""
    return 1 if critic_steps == 1 else lambda step: (step + 1) % critic_steps == 0


def wgan_turns(critic_steps: int = 5) -> Turns:
    """Return the steps at which WGAN's generator moves.

    Before each of its first 25 moves and before each 500th, the critic moves 100 times, and
    `critic_steps` times before all others (the official code of Arjovsky et al. 2017; the paper's
    algorithm 1 has 5 throughout).
    """
    # The end of the first 25 moves, that of the 475 after them, and a period from then on.
    begun = FIRST * LONG
    first = begun + (PERIOD - FIRST) * critic_steps
    period = LONG + (PERIOD - 1) * critic_steps

    def moves(step):
        since = (step - first) % period - (LONG - 1)
        return (
            ((step < begun) & ((step + 1) % LONG == 0))
            | ((step >= begun) & (step < first) & ((step - begun + 1) % critic_steps == 0))
            | ((step >= first) & (since >= 0) & (since % critic_steps == 0))
        )

    return moves
