"""Adaptive steps on the probability flow, by diffrax."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from genax.core import GenaxError
from genax.diffusion import probability_flow
from genax.diffusion.probability_flow import velocity
from genax.diffusion.process import Process
from genax.diffusion.sampling import Denoise, Solver
from genax.diffusion.solvers.steps import begin, check_times, level_at


class Integral(NamedTuple):
    """Samples, and how many evaluations of the network the steps took.

    Choosing the first step takes one or two more.
    """

    samples: Float[Array, "n ..."]
    evaluations: Int[Array, ""]


def adaptive(
    process: Process,
    largest: float | int,
    smallest: float | int,
    tolerance: float = 1e-5,
    method: str = "Tsit5",
    max_steps: int = 1_000,
) -> Solver:
    """Solver of the probability flow whose steps follow an estimate of their error.

    The flow ends at the time `smallest`. A last evaluation there takes the samples to the data. All
    samples share their steps. `integrate` also tells the number of evaluations.

    largest, smallest: times between which the flow is followed.
    tolerance: bound of the estimate of a step's error, relative and absolute. Below 1e-6 it is lost
      in float32.
    method: explicit Runge-Kutta method of diffrax, such as Tsit5, Dopri5 (RK45 of Song et al. 2021)
      or Heun.
    max_steps: bound of the number of steps. NaN is the result if they do not suffice.
    Raises GenaxError without diffrax, for a method that diffrax lacks, and for times that do not
    fall or have no noise.
    """
    _method(method)
    if not largest > smallest or not tolerance > 0:
        raise GenaxError(
            f"adaptive: times have to fall, got {largest} to {smallest}, and the tolerance "
            f"{tolerance} has to be above 0."
        )

    check_times("adaptive", process, np.array([largest, smallest]))

    def solve(denoise, noise, draw):
        start = begin(process, noise, level_at(process, jnp.asarray([largest], float)))
        reached, _ = integrate(
            denoise, start, process, largest, smallest, tolerance, method, max_steps
        )
        return denoise(reached, jnp.asarray(smallest, float))

    return solve


def integrate(
    denoise: Denoise,
    noisy: Float[Array, "n ..."],
    process: Process,
    largest: float | int,
    smallest: float | int,
    tolerance: float = 1e-5,
    method: str = "Tsit5",
    max_steps: int = 1_000,
) -> Integral:
    """Follow the probability flow, see `velocity`, from one time to another.

    noisy: samples at the time `largest`.
    largest, smallest, tolerance, method, max_steps: see `adaptive`.
    """
    diffrax, solver = _method(method)

    def slope(time, noisy, _):
        return velocity(process, time, noisy, denoise(noisy, time))

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(slope),
        solver,
        jnp.asarray(largest, float),
        jnp.asarray(smallest, float),
        None,
        noisy,
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        # Plain loops, in which a solver may be watched.
        adjoint=diffrax.ForwardMode(),
        max_steps=max_steps,
        throw=False,
    )
    done = solution.result == diffrax.RESULTS.successful
    # The last stage of such a method is the first one of the next step.
    shared = int(solver.tableau.fsal)
    stages = solver.tableau.num_stages - shared
    evaluations = solution.stats["num_steps"] * stages + shared
    return Integral(jnp.where(done, solution.ys[-1], jnp.nan), evaluations)


def _method(name: str) -> tuple[ModuleType, Any]:
    """Return diffrax and its Runge-Kutta method of this name."""
    diffrax = probability_flow.diffrax()
    found = getattr(diffrax, name, None)
    if not isinstance(found, type) or not issubclass(found, diffrax.AbstractERK):
        raise GenaxError(
            f"adaptive: diffrax has no explicit Runge-Kutta method {name!r}; take Tsit5, Dopri5 or "
            "Heun."
        )
    return diffrax, found()
