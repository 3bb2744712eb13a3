"""Denoisers with known answers, and samplers run on them."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genax.diffusion.networks import Networks
from genax.diffusion.process import DiscreteProcess
from genax.diffusion.schedules import linear_betas

PROCESS = DiscreteProcess(linear_betas())
MEAN, DEVIATION = 0.3, 0.25
# The first noise of a solver, and what it draws on the way.
NOISE = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 1)), jnp.float32)
MORE_NOISE = np.random.default_rng(1).normal(size=(1001, *NOISE.shape)).astype(np.float32)


class GaussianDenoiser(nn.Module):
    """The exact E[noise | x_t] where every pixel of the data is N(MEAN, DEVIATION^2)."""

    @nn.compact
    def __call__(self, x, timesteps, train=False):
        one = self.param("one", nn.initializers.ones, ())
        signal, sigma = (f(timesteps).reshape(-1, 1, 1, 1) for f in (PROCESS.signal, PROCESS.sigma))
        variance = jnp.square(signal * DEVIATION) + jnp.square(sigma)
        return one * sigma * (x - signal * MEAN) / variance


class WavyDenoiser(nn.Module):
    """A bounded function of everything, to compare samplers with references."""

    @nn.compact
    def __call__(self, x, timesteps, train=False):
        one = self.param("one", nn.initializers.ones, ())
        return one * jnp.sin(3 * x + timesteps.reshape(-1, 1, 1, 1) / 100)


def gaussian_clean(process, x, time):
    """The exact expectation of data N(MEAN, DEVIATION^2)."""
    at = jnp.full(1, time)
    signal, sigma = process.signal(at), process.sigma(at)
    gain = signal * DEVIATION**2 / (jnp.square(signal * DEVIATION) + jnp.square(sigma))
    return MEAN + gain * (x - signal * MEAN)


def run(function, denoiser, batch, seed=0, options=None):
    """`function`(nets, batch) with a denoiser whose only parameter is 1, compiled by options."""
    variables = {"params": {"denoiser": {"one": np.float32(1.0)}}}
    apply = nn.apply(function, Networks(denoiser))
    keys = {"example": jax.random.key(seed)}
    compiled = jax.jit(lambda batch: apply(variables, batch, rngs=keys), compiler_options=options)
    return compiled(batch)
