"""Langevin dynamics at levels of noise: the sampler of NCSN, and the corrector of score SDEs."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from genax.core import GenaxError, gather
from genax.diffusion.sampling import Solver
from genax.diffusion.solvers.steps import Level, float32, level_at, walk
from genax.diffusion.variance_exploding import NoiseLevels


def score_of(noisy: Array, clean: Array, level: Level) -> Array:
    """Return the gradient of the log density of noisy samples, whose clean samples are expected."""
    return (level.signal * clean - noisy) / jnp.square(level.sigma)


def mean_norm(x: Float[Array, "n ..."]) -> Float[Array, ""]:
    """Return the mean over the global batch of the norm of each example."""
    return gather(jnp.sqrt(jnp.square(x).reshape(len(x), -1).sum(-1))).mean()


def annealed_langevin(
    process: NoiseLevels, step_size: float = 8e-5, steps_per_level: int = 100
) -> Solver:
    """Annealed Langevin dynamics (Song & Ermon 2019, algorithm 1, in the form of its code).

    Each level i, from the one with the most noise on, has steps x + a score + sqrt(2 a) noise with
    a = step_size (sigma_i / sigma_last)^2. The first samples are uniform in [-1, 1], as in the
    code, and the last ones keep the noise of the last level.

    step_size: for images in [-1, 1] it is 4 times that of the paper's code (2e-5), whose images are
      in [0, 1].
    Raises GenaxError for a step that is not above 0, and for levels without steps.
    """
    if not step_size > 0 or steps_per_level < 1:
        raise GenaxError(
            f"annealed_langevin: step_size={step_size} has to be above 0 and steps_per_level="
            f"{steps_per_level} at least 1."
        )
    times = np.repeat(np.arange(process.num_levels)[::-1], steps_per_level)
    sizes = step_size * np.square(process.sigmas[times] / process.sigmas[0])

    def solve(denoise, noise, draw):
        def step(noisy, number, now, size):
            score = score_of(noisy, denoise(noisy, now.time), now)
            return noisy + size * score + jnp.sqrt(2 * size) * draw(number)

        now = level_at(process, times)
        return walk(step, 2 * norm.cdf(noise) - 1, now, float32(sizes))

    return solve
