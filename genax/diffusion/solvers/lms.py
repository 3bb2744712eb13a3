"""Linear multistep method on the probability flow."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genax.core import GenaxError
from genax.diffusion.process import Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.steps import begin, check_times, exact_sum, levels, noise_in, walk

MOST = 4


def lms(
    process: Process, times: np.ndarray, order: int = 4, end: float | int | None = None
) -> Solver:
    """Linear multistep method of Adams and Bashforth, with one evaluation per step.

    The predicted noise of the last steps is extrapolated by a polynomial in sigma / signal, whose
    integral is exact for steps of any length. The first steps have a shorter history.

    times: falling times. The process must have some signal at all of them.
    order: most predictions that a step uses, from 1 to 4.
    end: time at which the last step ends. None is the data.
    Raises GenaxError for times that `check_times` refuses, and for another order.
    """
    times = check_times("lms", process, times, end, needs_signal=True)
    if order not in range(1, MOST + 1):
        raise GenaxError(f"lms: order={order} has to be a whole number from 1 to {MOST}.")

    def solve(denoise, noise, draw):
        def step(value, number, now, after, weights):
            noisy, history = value
            latest = noise_in(noisy, denoise(noisy, now.time), now)
            history = jnp.concatenate([latest[None], history[:-1]])
            moved = noisy / now.signal + exact_sum(weights, history)
            return after.signal * moved, history

        now, after = levels(process, times, end)
        weights = lms_weights(now.sigma / now.signal, after.sigma / after.signal, order)
        start = begin(process, noise, now)
        return walk(step, (start, jnp.zeros((order, *start.shape))), now, after, weights)[0]

    return solve


def lms_weights(
    ratios: Float[Array, " steps"], later: Float[Array, " steps"], order: int
) -> Float[Array, "steps order"]:
    """Return the integrals of Lagrange's polynomials over each step, the latest point first.

    ratios, later: sigma / signal at which steps begin and end.
    """
    back = jnp.arange(order)
    places = jnp.arange(len(ratios))[:, None] - back
    known = places >= 0
    points = ratios[places.clip(0)]
    # Gauss's rule with two points is exact for polynomials of degree 3.
    middle, half = (later + ratios) / 2, (later - ratios) / 2
    nodes = middle[:, None] + half[:, None] * jnp.asarray([-1, 1]) / jnp.sqrt(3.0)
    own = points[:, :, None] - points[:, None, :]
    skip = ~known[:, None, :] | (back[:, None] == back)
    factors = jnp.where(
        skip[:, None],
        1.0,
        (nodes[:, :, None, None] - points[:, None, None, :]) / jnp.where(skip, 1.0, own)[:, None],
    )
    return jnp.where(known, half[:, None] * factors.prod(-1).sum(1), 0.0)
