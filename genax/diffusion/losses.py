"""Losses of denoisers. The task's networks have a submodule `denoiser`."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core import Loss, per_example
from genax.core.task import Batch
from genax.diffusion.coupling import Coupling, independent
from genax.diffusion.predictions import EPSILON, Prediction, at_times
from genax.diffusion.process import Process, expand, q_sample
from genax.diffusion.weightings import Weighting, uniform
from genax.nn.conditions import Condition, unconditional


def mean_over_pixels(x: Float[Array, "b ..."]) -> Float[Array, " b"]:
    """Return the mean of each example."""
    return x.mean(axis=tuple(range(1, x.ndim)))


def denoising_loss(
    nets: nn.Module,
    batch: Batch,
    process: Process,
    prediction: Prediction = EPSILON,
    condition: Condition = unconditional,
    weighting: Weighting = uniform,
    coupling: Coupling = independent,
    train: bool = True,
) -> Loss:
    """Squared error of the prediction at a random time, a mean over pixels.

    With EPSILON it is L_simple, E ||eps - eps_theta(x_t, t)||^2 (Ho et al. 2020, eq. 14). Times and
    noise are drawn per example. Values are [b].

    batch["image"]: [b, h, w, c] in [-1, 1].
    condition: further arguments of the denoiser.
    weighting: factor of an example's error by its time.
    coupling: joins images and noise, see `optimal_transport`.
    train: whether dropout is on. False gives a held-out error.
    """
    clean = batch["image"]
    timesteps = per_example(process.sample_time, nets, batch)
    noise = per_example(jax.random.normal, nets, batch, clean.shape[1:], clean.dtype)
    noise = coupling(clean, noise)
    noisy = q_sample(process, clean, noise, timesteps)
    network = at_times(nets.denoiser, process, prediction)
    output = network(noisy, timesteps, train=train, **condition(nets, batch))
    signal, sigma = process.signal(timesteps), process.sigma(timesteps)
    target = prediction.target(clean, noise, expand(signal, clean), expand(sigma, clean))
    error = mean_over_pixels(jnp.square(output - target))
    return Loss(weighting(prediction, signal, sigma) * error)
