"""The variational bound on the negative log-likelihood, in bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.stats import norm
from jaxtyping import Array, Float, Int

from genax.core import GenaxError, Loss, example_keys, pure
from genax.core.task import Batch
from genax.diffusion.losses import images_of, mean_over_pixels
from genax.diffusion.predictions import (
    EPSILON,
    Prediction,
    at_times,
    predict_clean,
    split_variance,
)
from genax.diffusion.process import (
    DiscreteProcess,
    between,
    expand,
    fixed_large,
    look_up,
    q_sample,
)
from genax.nn.conditions import Condition, unconditional

NATS_TO_BITS = 1 / math.log(2)


def gaussian_kl(mean: Any, variance: Any, other_mean: Any, other_variance: Any) -> Array:
    """Return KL(N(mean, variance) || N(other mean, other variance)) per element, in nats."""
    ratio = variance / other_variance
    return 0.5 * (ratio - 1 - jnp.log(ratio) + jnp.square(mean - other_mean) / other_variance)


def discretized_log_likelihood(
    image: Float[Array, "*#shape"],
    mean: Float[Array, "*#shape"],
    deviation: Float[Array, "*#shape"] | float,
    num_levels: int = 256,
) -> Float[Array, "*shape"]:
    """Return the log probability of an image's levels under a Gaussian, in nats.

    Ho et al. 2020, eq. 13. A level has the mass of the interval around it. The first and last level
    reach to infinity.

    image: in [-1, 1], snapped to the nearest of `num_levels` evenly spaced levels.
    mean, deviation: mean and standard deviation of the Gaussian.
    """
    half = 1.0 / (num_levels - 1)
    level = jnp.round((image + 1) / (2 * half))
    centred = (level * 2 * half - 1 - mean) / deviation
    upper = centred + half / deviation
    lower = centred - half / deviation
    # On the right of the mean both values are close to 1, so their mirror images are subtracted.
    right = centred > 0
    high, low = jnp.where(right, -lower, upper), jnp.where(right, -upper, lower)
    inner = norm.cdf(high) - norm.cdf(low)
    # If float32 cannot hold the mass, the density times the width is accurate enough.
    tail = norm.logpdf(centred) + jnp.log(2 * half / deviation)
    inside = jnp.where(inner > 1e-20, jnp.log(jnp.maximum(inner, 1e-20)), tail)
    inside = jnp.where(level == num_levels - 1, norm.logcdf(-lower), inside)
    return jnp.where(level == 0, norm.logcdf(upper), inside)


def variational_term(
    process: DiscreteProcess,
    prediction: Prediction,
    variance: np.ndarray,
    output: Float[Array, "b ..."],
    clean: Float[Array, "b ..."],
    noisy: Float[Array, "b ..."],
    timesteps: Int[Array, " b"],
    num_levels: int = 256,
    clip_denoised: bool = False,
) -> Float[Array, " b"]:
    """Return the term of the bound at each image's timestep, L_{t-1} or L_0, in nats per dimension.

    Ho et al. 2020, eq. 5: the divergence of the reverse step from the posterior, and at timestep 0
    the negative log probability of the image's levels.

    variance: variances [T] of the reverse steps, or the ends [2, T] of learned ones.
    output: the network's output for the noisy images.
    """
    predicted = predict_clean(process, prediction, output, noisy, timesteps, clip_denoised)
    mean = process.posterior_mean(predicted, noisy, timesteps)
    if variance.ndim == 2:
        _, fraction = split_variance(prediction, output, noisy)
        if fraction is None:
            raise GenaxError(
                "the bound takes learned variances, but the prediction has none: use the "
                "prediction `with_variance` or choose fixed variances."
            )
        ends = jnp.stack([expand(look_up(end, timesteps), clean) for end in variance])
        model_variance = between(ends, fraction)
    else:
        model_variance = expand(look_up(variance, timesteps), clean)
    # At timestep 0 the posterior has no variance, and the decoder's term takes the place of this
    # one.
    true_variance = expand(look_up(np.maximum(process.posterior_variance, 1e-20), timesteps), clean)
    true_mean = process.posterior_mean(clean, noisy, timesteps)
    divergence = gaussian_kl(true_mean, true_variance, mean, model_variance)
    decoded = discretized_log_likelihood(clean, mean, jnp.sqrt(model_variance), num_levels)
    nats = jnp.where(expand(timesteps, clean) == 0, -decoded, divergence)
    return mean_over_pixels(nats)


def variational_bound(
    nets: nn.Module,
    batch: Batch,
    process: DiscreteProcess,
    num_draws: int = 4,
    prediction: Prediction = EPSILON,
    variance: Callable[[DiscreteProcess], np.ndarray] = fixed_large,
    num_levels: int = 256,
    clip_denoised: bool = True,
    condition: Condition = unconditional,
) -> Loss:
    """Unbiased estimate of the bound L_T + L_{T-1} + ... + L_0 (Ho et al. 2020, eq. 5).

    Values are bits per dimension, [b]. L_T and L_0 are always counted. The other terms, L_t at
    timestep t >= 1, are estimated from `num_draws` timesteps per example. A timestep is drawn with
    a probability proportional to 1/t, which is about the size of its term.

    batch["image"]: [b, h, w, c] in [-1, 1], with `num_levels` levels.
    num_draws: timesteps drawn per example.
    variance: variances of the reverse steps, see `ancestral`; `learned_range` for learned ones.
    clip_denoised: clip the predicted clean image to [-1, 1].
    condition: further arguments of the denoiser.
    Raises GenaxError without a draw, which would leave out most of the bound, and for fewer than
    two levels. `images_of` says which images are refused.
    """
    if process.num_timesteps < 2:
        raise GenaxError(
            f"variational_bound: a process of {process.num_timesteps} timestep has no term of the "
            "bound to draw; it needs at least 2."
        )
    if num_draws < 1 or num_levels < 2:
        raise GenaxError(
            f"variational_bound: num_draws={num_draws} must be at least 1 and "
            f"num_levels={num_levels} at least 2."
        )
    clean = images_of(batch)
    keys = example_keys(nets, batch)
    arguments = condition(nets, batch)
    variances = variance(process)
    denoiser = pure(nets.denoiser, clean, jnp.zeros(clean.shape[0], int), **arguments)
    network = at_times(denoiser, process, prediction)
    shift = _even_shifts(nets, batch)
    chances = 1 / np.maximum(np.arange(process.num_timesteps), 1.0)
    chances /= chances[1:].sum()
    cumulative = jnp.asarray(np.cumsum(chances[1:]), jnp.float32)

    def one_draw(number):
        noise = jax.vmap(
            lambda key: jax.random.normal(
                jax.random.fold_in(key, number), clean.shape[1:], clean.dtype
            )
        )(keys)
        quantile = (shift + number - 1) / num_draws
        timesteps = jnp.where(number == 0, 0, jnp.searchsorted(cumulative, quantile) + 1)
        timesteps = jnp.minimum(timesteps, process.num_timesteps - 1)
        weight = jnp.where(number == 0, 1.0, look_up(1 / (num_draws * chances), timesteps))
        noisy = q_sample(process, clean, noise, timesteps)
        output = network(noisy, timesteps, **arguments)
        nats = variational_term(
            process,
            prediction,
            variances,
            output,
            clean,
            noisy,
            timesteps,
            num_levels,
            clip_denoised,
        )
        return weight * nats

    terms = lax.map(one_draw, jnp.arange(num_draws + 1)).sum(0)
    last = process.alphas_cumprod[-1]
    prior = mean_over_pixels(gaussian_kl(math.sqrt(last) * clean, 1.0 - last, 0.0, 1.0))
    return Loss((prior + terms) * NATS_TO_BITS)


def _even_shifts(nets: nn.Module, batch: Batch) -> Float[Array, " b"]:
    """Return evenly spread numbers in [0, 1), one per example, each of them uniform.

    The numbers are multiples of the golden ratio after a random start (Kingma et al. 2021, section
    5.1, spread the times of a batch for the same reason). They depend on the index, so they are the
    same in any split into batches.
    """
    start = jax.random.uniform(nets.make_rng("example"))
    multiples = jnp.asarray(batch["index"], jnp.uint32) * jnp.uint32(0x9E3779B9)
    return (start + multiples.astype(jnp.float32) / 2.0**32) % 1.0
