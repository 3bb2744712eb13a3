"""Solvers that are watched: a callback for progress, and the states on the way.

A watched solver is a solver, so any solver may be watched, and `sample` knows nothing of it. What
is watched is the time at which the solver asks for clean samples.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from genax.diffusion.process import Process, expand
from genax.diffusion.sampling import Solver

# (number of the step, from 1 on, number of steps) -> nothing. It runs on the host.
Progress = Callable[[int, int], None]


def with_progress(solver: Solver, times: np.ndarray, progress: Progress | None) -> Solver:
    """Solver that tells the host each time that it comes to one of its times.

    progress: called in order, once a step, for each chunk of samples. With `tqdm` it is

        bar = tqdm(total=len(times))
        progress = lambda step, total: bar.update(step - bar.n)

      None leaves the solver as it is.
    times: falling times of the solver's steps.
    """
    if progress is None:
        return solver
    falling = np.asarray(times, np.float32)

    def report(step):
        progress(int(step), len(falling))

    def solve(denoise, noise, draw):
        done = jax.new_ref(jnp.zeros((), int))

        def watched(noisy, time):
            # A solver may look ahead to the next time, and come back.
            step = jnp.maximum(jnp.sum(falling >= time), 1)
            lax.cond(step > done[...], lambda: jax.debug.callback(report, step), lambda: None)
            done[...] = jnp.maximum(step, done[...])
            return denoise(noisy, time)

        return solver(watched, noise, draw)

    return solve


def filmed(solver: Solver, process: Process, times: np.ndarray, clean: bool = False) -> Solver:
    """Solver that returns states on the way before its samples: [n, len(times) + 1, ...].

    `genax.diffusion.film_strip` draws them. The state of a time is the last one that the solver
    shows to the network before it goes below that time.

    times: falling times. The first is not above that of the solver's first step.
    clean: the states are the clean samples that the network expects. Otherwise they are the noisy
      ones, divided by the root of signal^2 + sigma^2, so that those of a process whose variance
      explodes can be seen.
    """
    falling = np.asarray(times, np.float32)

    def solve(denoise, noise, draw):
        film = jax.new_ref(jnp.zeros((len(falling), *noise.shape), noise.dtype))

        def watched(noisy, time):
            expected = denoise(noisy, time)
            at = jnp.asarray(time)[None]
            scale = jnp.sqrt(process.signal(at) ** 2 + process.sigma(at) ** 2)[0]
            state = expected if clean else noisy / scale
            frames = film[...]
            film[...] = jnp.where(expand(time >= falling, frames), state, frames)
            return expected

        samples = solver(watched, noise, draw)
        return jnp.moveaxis(jnp.concatenate([film[...], samples[None]]), 0, 1)

    return solve
