"""The ancestral sampler and DDIM written out without solvers, which have to agree to the bit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from genax.core import example_keys, pure
from genax.diffusion.predictions import EPSILON, predict_clean
from genax.diffusion.process import factors, fixed_large
from genax.diffusion.solvers.ddim import ddim_coefficients
from genax.diffusion.solvers.steps import levels


def ancestral_sampler(nets, batch, process, shape, variance=fixed_large, clip_denoised=True):
    """Ho et al. 2020, algorithm 2."""
    deviations = np.sqrt(variance(process))
    deviations[0] = 0.0

    def step(noisy, output, timesteps, deviation, draw):
        clean = predict_clean(process, EPSILON, output, noisy, timesteps, clip_denoised)
        return process.posterior_mean(clean, noisy, timesteps) + deviation * draw()

    timesteps = np.arange(process.num_timesteps)[::-1]
    return _sample(nets, batch, step, timesteps, deviations[::-1], shape)


def ddim_sampler(nets, batch, process, shape, timesteps, eta, clip_denoised=True):
    """Song et al. 2021, eq. 12."""

    def step(noisy, output, timesteps, coefficients, draw):
        clean = predict_clean(process, EPSILON, output, noisy, timesteps, clip_denoised)
        signal, direction, deviation = coefficients
        now, sigma = factors(process, timesteps, noisy)
        predicted = (noisy - now * clean) / sigma
        noise = draw() if eta else 0.0
        return signal * clean + direction * predicted + deviation * noise

    coefficients = ddim_coefficients(*levels(process, timesteps), eta)
    return _sample(nets, batch, step, timesteps, coefficients, shape)


def _sample(nets, batch, step, timesteps, coefficients, shape):
    keys = example_keys(nets, batch)
    count = keys.shape[0]

    def draw(number):
        def normal(key):
            return jax.random.normal(jax.random.fold_in(key, number), tuple(shape))

        return jax.vmap(normal)(keys)

    noise = draw(0)
    denoiser = pure(nets.denoiser, noise, jnp.zeros(count, jnp.int32))

    def body(noisy, inputs):
        number, timestep, row = inputs
        now = jnp.full(count, timestep)
        return step(noisy, denoiser(noisy, now), now, row, lambda: draw(number)), None

    rows = jax.tree.map(lambda table: jnp.asarray(table, jnp.float32), coefficients)
    plan = (jnp.arange(1, len(timesteps) + 1), jnp.asarray(timesteps, jnp.int32), rows)
    return lax.scan(body, noise, plan)[0]
