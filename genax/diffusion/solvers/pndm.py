"""Pseudo numerical methods for diffusion models."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genax.core import GenaxError
from genax.diffusion.process import Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.steps import (
    Level,
    begin,
    check_times,
    exact_sum,
    float32,
    level_at,
    levels,
    noise_in,
    transfer,
    walk,
)

# Weights of Adams and Bashforth (Liu et al. 2022, eq. 12) by the number of steps before, at most 3.
MULTISTEP = np.array(
    [
        [1, 0, 0, 0],
        [3 / 2, -1 / 2, 0, 0],
        [23 / 12, -16 / 12, 5 / 12, 0],
        [55 / 24, -59 / 24, 37 / 24, -9 / 24],
    ]
)
ALONE = MULTISTEP[0]


class Evaluation(NamedTuple):
    """One evaluation of the network, or all of them, with what is done to the samples after it.

    first: whether it is the first one of its step. The samples of this moment are those that move.
    weights: weights of its predicted noise, and of that of the last three first evaluations.
    earlier: weight of a sum over the other evaluations of the step.
    share: weight of its predicted noise in that sum.
    """

    first: bool | np.ndarray
    weights: np.ndarray
    earlier: float | np.ndarray = 0.0
    share: float | np.ndarray = 0.0


RUNGE_KUTTA = (
    Evaluation(True, ALONE, share=1 / 6),
    Evaluation(False, ALONE, share=1 / 3),
    Evaluation(False, ALONE, share=1 / 3),
    Evaluation(False, ALONE / 6, earlier=1.0),
)
HEUN = Evaluation(True, ALONE), Evaluation(False, np.array([1 / 2, 1 / 2, 0, 0]))


def pndm(
    process: Process,
    times: np.ndarray,
    skip_prk_steps: bool = False,
    end: float | int | None = None,
) -> Solver:
    """Pseudo linear multistep method (Liu et al. 2022, algorithm 2), of second order.

    The first three steps are pseudo Runge-Kutta steps of four evaluations, so n steps take n + 9.

    times: falling, evenly spaced times, such as `leading` returns. The process must have some
      signal at all of them.
    skip_prk_steps: take Heun's method for the first step and a shorter history for the next two, as
      Stable Diffusion does. n steps take n + 1 evaluations.
    end: time at which the last step ends, such as timestep 0. None is the data.
    Raises GenaxError for times that `check_times` refuses, and for fewer than 4 without
    skip_prk_steps.
    """
    times = check_times("pndm", process, times, end, needs_signal=True)
    if len(times) < 4 and not skip_prk_steps:
        raise GenaxError(
            f"pndm: {len(times)} steps are fewer than 4, since three are Runge-Kutta steps; take "
            "more, or skip_prk_steps=True."
        )
    table, places = _plan(times, skip_prk_steps)

    def solve(denoise, noise, draw):
        def step(value, number, row, now, at, to):
            noisy, kept, history, total = value
            kept = jnp.where(row.first, noisy, kept)
            latest = noise_in(noisy, denoise(noisy, at.time), at)
            known = jnp.concatenate([latest[None], history])
            moved = exact_sum(row.weights, known) + row.earlier * total
            total = jnp.where(row.first, 0.0, total) + row.share * latest
            history = jnp.where(row.first, known[:-1], history)
            return transfer(kept, moved, now, to), kept, history, total

        now, at, to = (level_at(process, column) for column in places)
        last = jax.tree.map(lambda values: values[-1], levels(process, times, end)[1])
        to = Level(*(values.at[-1].set(value) for values, value in zip(to, last, strict=True)))
        start = begin(process, noise, now)
        value = start, start, jnp.zeros((3, *start.shape)), jnp.zeros_like(start)
        return walk(step, value, float32(table), now, at, to)[0]

    return solve


def _plan(times: np.ndarray, skip_prk_steps: bool) -> tuple[Evaluation, list[np.ndarray]]:
    """Return the table of evaluations, and the times of each: of its step, its own, and the next.

    The last time is a stand-in for the end.
    """
    ends = np.append(times[1:], times[-1])
    halves = (times - ends) / 2 if times.dtype.kind == "f" else (times - ends) // 2
    rows: list[Evaluation] = []
    places: list[tuple] = []
    for number, (now, end, half) in enumerate(zip(times, ends, halves, strict=True)):
        if number < 3 and not skip_prk_steps:
            rows += RUNGE_KUTTA
            middle = now - half
            places += [(now, now, middle), (now, middle, middle), (now, middle, end)]
            places += [(now, end, end)]
        elif not number and len(times) > 1:
            rows += HEUN
            places += [(now, now, end), (now, end, end)]
        else:
            rows.append(Evaluation(True, MULTISTEP[min(number, 3)]))
            places.append((now, now, end))
    table = Evaluation(*(np.array(column) for column in zip(*rows, strict=True)))
    return table, list(np.array(places).T)
