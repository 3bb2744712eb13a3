"""MeanFlow: a network of average velocities, from which samples are drawn in one step."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from genax.core import GenaxError, Loss, per_example, pure
from genax.core.task import Batch
from genax.diffusion.losses import images_of, mean_over_pixels
from genax.diffusion.predictions import AVERAGE_VELOCITY, Prediction, at_times
from genax.diffusion.process import Process, expand, q_sample
from genax.nn.conditions import Condition, unconditional


def mean_flow_loss(
    nets: nn.Module,
    batch: Batch,
    process: Process,
    prediction: Prediction = AVERAGE_VELOCITY,
    condition: Condition = unconditional,
    interval_share: float = 0.25,
    power: float = 1.0,
    floor: float = 1e-3,
    train: bool = True,
) -> Loss:
    """Squared error of the average velocity u(z, r, t) from t back to r (Geng et al. 2025, eq. 9).

    z = (1 - t) clean + t noise has the velocity v = noise - clean. The target is
    v - (t - r) du/dt, without a gradient, where du/dt is the derivative of u along (v, 0, 1) in
    (z, r, t). An example's error e, a sum over pixels, is divided by (e + floor)^power, without a
    gradient (eq. 22). Values are [b]. The metric "error" is the mean over pixels, undivided.

    batch["image"]: [b, h, w, c] in [-1, 1].
    process: `LinearFlow`. t and r are the later and the earlier of two of its times.
    prediction: its `inputs` scale what the network gets, t and `interval` (t - r).
    condition: further arguments of the denoiser.
    interval_share: share of examples with r < t. The others have r = t, which is flow matching.
    power: 0 is the plain squared error.
    train: whether dropout is on.
    Raises GenaxError unless 0 <= interval_share <= 1, power >= 0 and floor > 0.
    """
    if not (0 <= interval_share <= 1 and power >= 0 and floor > 0):
        raise GenaxError(
            f"mean_flow_loss: interval_share={interval_share} must be from 0 to 1, power={power} "
            f"at least 0 and floor={floor} above 0."
        )
    clean = images_of(batch)
    first, second = (per_example(process.sample_time, nets, batch) for _ in range(2))
    times = jnp.maximum(first, second)
    apart = per_example(jax.random.bernoulli, nets, batch, interval_share)
    ends = jnp.where(apart, jnp.minimum(first, second), times)
    noise = per_example(jax.random.normal, nets, batch, clean.shape[1:], clean.dtype)
    noisy, velocity = q_sample(process, clean, noise, times), noise - clean
    arguments = condition(nets, batch)
    # Both values of the derivative see one dropout mask.
    keys = {"dropout": nets.make_rng("dropout")} if train and nets.has_rng("dropout") else {}
    denoiser = pure(nets.denoiser, noisy, times, interval=ends, **arguments)

    def average(noisy, ends, times):
        network = at_times(denoiser, process, prediction)
        return network(noisy, times, end=ends, train=train, rngs=keys, **arguments)

    directions = velocity, jnp.zeros_like(ends), jnp.ones_like(times)
    output, slope = jax.jvp(average, (noisy, ends, times), directions)
    target = lax.stop_gradient(velocity - expand(times - ends, clean) * slope)
    error = mean_over_pixels(jnp.square(output - target))
    total = error * clean[0].size
    return Loss(total / lax.stop_gradient((total + floor) ** power), aux={"error": Loss(error)})
