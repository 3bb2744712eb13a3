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
from genax.diffusion.sampling import Denoise, Denoiser, Solver

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

        def see(noisy, time, clean):
            # A solver may look ahead to the next time, and come back.
            step = jnp.maximum(jnp.sum(falling >= time), 1)
            lax.cond(step > done[...], lambda: jax.debug.callback(report, step), lambda: None)
            done[...] = jnp.maximum(step, done[...])

        return solver(_watched(denoise, see), noise, draw)

    return solve


def filmed(solver: Solver, process: Process, times: np.ndarray, clean: bool = False) -> Solver:
    """Solver that returns states on the way before its samples: [n, len(times) + 1, ...].

    `film_strip` of `genax.evaluation.pictures` draws them. The state of a time is the last one that
    the solver shows to the network before it goes below that time.

    times: falling times. The first is not above that of the solver's first step.
    clean: the states are the clean samples that the network expects. Otherwise they are the noisy
      ones, divided by the root of signal^2 + sigma^2, so that those of a process whose variance
      explodes can be seen.
    """
    falling = np.asarray(times, np.float32)

    def solve(denoise, noise, draw):
        film = jax.new_ref(jnp.zeros((len(falling), *noise.shape), noise.dtype))

        def see(noisy, time, expected):
            at = jnp.asarray(time)[None]
            scale = jnp.sqrt(process.signal(at) ** 2 + process.sigma(at) ** 2)[0]
            frames = film[...]
            state = expected if clean else noisy / scale
            film[...] = jnp.where(expand(time >= falling, frames), state, frames)

        samples = solver(_watched(denoise, see), noise, draw)
        return jnp.moveaxis(jnp.concatenate([film[...], samples[None]]), 0, 1)

    return solve


def _watched(denoise: Denoise, see: Callable[..., None]) -> Denoiser:
    """Return the denoising function, which shows its arguments and clean samples to `see`."""

    def with_variance(noisy, time, end=None):
        if isinstance(denoise, Denoiser):
            clean, fraction = denoise.with_variance(noisy, time, end)
        else:
            further = {} if end is None else {"end": end}
            clean, fraction = denoise(noisy, time, **further), None
        see(noisy, time, clean)
        return clean, fraction

    return Denoiser(with_variance)
