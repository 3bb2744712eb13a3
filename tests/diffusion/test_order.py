"""Solvers on a mixture of Gaussians with known score: the error falls at each one's order.

The trajectory stops at SMALLEST. The usual last step, to the data, is of first order. A solver
joins with one row of ORDERS.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from genax.diffusion.sampling import Solver
from genax.diffusion.solvers import (
    ddim,
    dpm_2,
    dpm_solver,
    dpm_solver_2s,
    dpm_solver_singlestep,
    euler,
    flow_heun,
    heun,
    lms,
    pndm,
    sa_solver,
    uni_pc,
)
from genax.diffusion.spacings import karras
from genax.diffusion.variance_exploding import VarianceExploding

EXPLODING = VarianceExploding()
SMALLEST, LARGEST = 0.05, 80.0
MEANS, DEVIATIONS, WEIGHTS = np.array([-1.0, 0.2, 1.5]), np.array([0.3, 0.2, 0.5]), [0.3, 0.5, 0.2]
NOISE = np.random.default_rng(0).normal(size=(64, 1))


class Row(NamedTuple):
    """A solver's row.

    solver: (falling times of `EXPLODING`, time at which the last step ends) -> the solver.
    order: exponent of its error over the length of a step.
    steps: three numbers of steps, each twice the one before, at which the order shows.
    """

    solver: Callable[[np.ndarray, float], Solver]
    order: int
    steps: tuple[int, int, int] = (64, 128, 256)


ORDERS = {
    "euler": Row(lambda times, end: euler(EXPLODING, times, end=end), 1),
    "ddim": Row(lambda times, end: ddim(EXPLODING, times, end=end), 1),
    "heun": Row(lambda times, end: heun(EXPLODING, times, end=end), 2),
    "flow_heun": Row(lambda times, end: flow_heun(EXPLODING, times, end=end), 2),
    "dpm_2": Row(lambda times, end: dpm_2(EXPLODING, times, end=end), 2),
    "pndm": Row(lambda times, end: pndm(EXPLODING, times, end=end), 2),
    "lms-1": Row(lambda times, end: lms(EXPLODING, times, order=1, end=end), 1),
    "lms-2": Row(lambda times, end: lms(EXPLODING, times, order=2, end=end), 2),
    "lms-3": Row(lambda times, end: lms(EXPLODING, times, order=3, end=end), 3),
    "lms-4": Row(lambda times, end: lms(EXPLODING, times, order=4, end=end), 4),
    "dpm_solver-1": Row(lambda times, end: dpm_solver(EXPLODING, times, 1, end=end), 1),
    "dpm_solver-2": Row(lambda times, end: dpm_solver(EXPLODING, times, 2, end=end), 2),
    "dpm_solver-2-heun": Row(
        lambda times, end: dpm_solver(EXPLODING, times, 2, heun=True, end=end), 2
    ),
    # Half of the Taylor term of the second derivative, as in the authors' code.
    "dpm_solver-3": Row(lambda times, end: dpm_solver(EXPLODING, times, 3, end=end), 2),
    "dpm_solver-2-noise": Row(
        lambda times, end: dpm_solver(EXPLODING, times, 2, of_noise=True, end=end), 2
    ),
    "dpm_solver_singlestep-2": Row(
        lambda times, end: dpm_solver_singlestep(EXPLODING, times, 2, end=end), 2
    ),
    "dpm_solver_singlestep-3": Row(
        lambda times, end: dpm_solver_singlestep(
            EXPLODING, times, 3, True, lower_order_final=False, end=end
        ),
        3,
        (48, 96, 192),
    ),
    "dpm_solver_2s": Row(lambda times, end: dpm_solver_2s(EXPLODING, times, end=end), 2),
    "uni_pc-1": Row(
        lambda times, end: uni_pc(EXPLODING, times, 1, lower_order_final=False, end=end), 2
    ),
    "uni_pc-2": Row(
        lambda times, end: uni_pc(EXPLODING, times, 2, lower_order_final=False, end=end), 3
    ),
    "uni_pc-3": Row(
        lambda times, end: uni_pc(EXPLODING, times, 3, lower_order_final=False, end=end), 4
    ),
    "sa_solver-2": Row(
        lambda times, end: sa_solver(EXPLODING, times, stochasticity=lambda time: 0.0, end=end), 2
    ),
}


def expected_clean(xp, noisy, sigma):
    """E[clean | noisy], by numpy (xp) or jax.numpy."""
    variances = DEVIATIONS**2 + sigma**2
    logits = xp.log(xp.asarray(WEIGHTS)) - (noisy - MEANS) ** 2 / variances / 2
    chances = xp.exp(logits - logits.max(-1, keepdims=True)) / xp.sqrt(variances)
    gains = DEVIATIONS**2 / variances
    each = MEANS + gains * (noisy - MEANS)
    return (chances * each).sum(-1, keepdims=True) / chances.sum(-1, keepdims=True)


def slope(sigma, noisy):
    noisy = noisy[:, None]
    return ((noisy - expected_clean(np, noisy, sigma)) / sigma)[:, 0]


@cache
def exact() -> np.ndarray:
    """End of the probability flow, float64 with an error below 1e-11."""
    ends, start = (LARGEST, SMALLEST), NOISE[:, 0] * LARGEST
    return solve_ivp(slope, ends, start, "DOP853", rtol=1e-12, atol=1e-12).y[:, -1:]


def solved(row: Row, num_steps: int) -> tuple[float, int]:
    """Error of the solver, a mean over samples, and its number of evaluations, in float64."""
    times = karras(num_steps + 1, SMALLEST, LARGEST)
    with jax.enable_x64(True):
        solver = row.solver(times[:-1], times[-1])

        @jax.jit
        def run(noise):
            count = jax.new_ref(jnp.zeros((), int))

            def denoise(noisy, time):
                count[...] += 1
                return expected_clean(jnp, noisy, time)

            samples = solver(denoise, noise, lambda number: jnp.zeros_like(noise))
            return samples, count[...]

        samples, evaluations = run(jnp.asarray(NOISE))
        assert samples.dtype == np.float64
        return float(np.abs(np.asarray(samples) - exact()).mean()), int(evaluations)


@pytest.mark.parametrize("name", ORDERS)
def test_the_error_falls_at_the_order_of_the_solver(name):
    row = ORDERS[name]
    errors = [solved(row, num_steps)[0] for num_steps in row.steps]
    found = np.log2(np.divide(errors[:-1], errors[1:]))
    assert errors[0] < 0.05, errors
    assert abs(found[-1] - row.order) < 0.2, (errors, found)
