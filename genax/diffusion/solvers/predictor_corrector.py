"""Predictor-corrector sampling of score SDEs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genax.core import GenaxError
from genax.diffusion.process import Process
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.langevin import mean_norm, score_of
from genax.diffusion.solvers.steps import begin, check_times, levels, walk


class Moves(NamedTuple):
    """Factors of a predictor's steps: x goes to keep x + growth score + sqrt(growth) noise."""

    keep: Float[Array, " steps"]
    growth: Float[Array, " steps"]


# (process, falling times) -> the factors of the steps.
Predictor = Callable[[Process, np.ndarray], Moves]


def reverse_diffusion(process: Process, times: np.ndarray) -> Moves:
    """Steps that discretise the reverse SDE like the forward one (Song et al. 2021, eq. 46).

    The forward step is x times the ratio of the signals, and the noise that is missing then.
    """
    now, after = levels(process, times)
    ratio = now.signal / after.signal
    growth = jnp.square(now.sigma) - jnp.square(ratio * after.sigma)
    return Moves(2 - ratio, growth)


def euler_maruyama(process: Process, times: np.ndarray) -> Moves:
    """Steps of Euler and Maruyama of the length 1 / len(times), as in the paper's code.

    Raises GenaxError for times that are not evenly spaced from 1 on, which have other lengths, and
      for a process without signal at one of them.
    """
    check_times("euler_maruyama", process, times, needs_signal=True)
    if times[0] != 1 or not np.allclose(times, np.linspace(1, times[-1], len(times)), atol=1e-6):
        raise GenaxError(
            f"euler_maruyama: times have to be evenly spaced from 1 on, got {times}; use "
            "reverse_diffusion for others."
        )
    drift, growth = coefficients(process, jnp.asarray(times, jnp.float32))
    return Moves(1 - drift / len(times), growth / len(times))


def coefficients(
    process: Process, times: Float[Array, " b"]
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """Return f(t) and g(t)^2 of the SDE dx = f(t) x dt + g(t) dw that has the process's marginals.

    They follow from signal' = f signal and (sigma^2)' = 2 f sigma^2 + g^2 (Song et al. 2021, eq.
    28 and 29), so a process in continuous time need not say them.
    """
    ones = jnp.ones_like(times)
    signal, of_signal = jax.jvp(process.signal, (times,), (ones,))
    sigma, of_sigma = jax.jvp(process.sigma, (times,), (ones,))
    drift = of_signal / signal
    return drift, 2 * sigma * (of_sigma - drift * sigma)


def predictor_corrector(
    process: Process,
    times: np.ndarray,
    predictor: Predictor = reverse_diffusion,
    snr: float = 0.16,
    corrections: int = 1,
) -> Solver:
    """Predictor-corrector sampling (Song et al. 2021, algorithms 1 to 5).

    At each time come first the corrections, steps of Langevin dynamics, and then one step of the
    predictor to the next time. The last step goes to the data, without noise. n steps take
    n (corrections + 1) evaluations.

    A correction's step size is 2 a (snr |noise| / |score|)^2, where both norms are means over the
    batch, on all devices and processes. So samples depend on those that are drawn beside them, in
    one chunk of config.eval_batch_size. a is 1 if variance explodes, else the squared ratio of the
    signals of the two times (1 - beta in DDPM's chain).

    times: falling times of a process in continuous time, 1 to 1e-5 for the VE SDE and 1 to 1e-3
      for the VP SDE in the paper.
    snr: ratio of the norms of a correction and its noise. The paper has 0.16 for CIFAR-10 and the
      VE SDE.
    corrections: steps of Langevin dynamics at each time; 0 leaves the predictor alone.
    Raises GenaxError for times that `check_times` refuses, an snr that is not above 0 and fewer
    than 0 corrections.
    """
    times = check_times("predictor_corrector", process, times)
    if not snr > 0 or corrections < 0:
        raise GenaxError(
            f"predictor_corrector: snr={snr} has to be above 0 and corrections={corrections} at "
            "least 0."
        )
    moves = predictor(process, times)
    count = corrections + 1

    def solve(denoise, noise, draw):
        def step(noisy, number, now, factor, move, deviation):
            first = (number - 1) * count + 1
            for correction in range(corrections):
                fresh = draw(first + correction)
                score = score_of(noisy, denoise(noisy, now.time), now)
                size = 2 * factor * jnp.square(snr * mean_norm(fresh) / mean_norm(score))
                noisy = noisy + size * score + jnp.sqrt(2 * size) * fresh
            score = score_of(noisy, denoise(noisy, now.time), now)
            mean = move.keep * noisy + move.growth * score
            return mean + deviation * draw(first + corrections)

        now, after = levels(process, times)
        factor = jnp.square(now.signal / after.signal)
        deviations = jnp.sqrt(moves.growth).at[-1].set(0.0)
        return walk(step, begin(process, noise, now), now, factor, moves, deviations)

    return solve
