"""Samplers of discrete processes: functions (nets, batch) -> images.

A sample depends on the seed and its index only, not on how many are drawn beside it. One compiled
loop whatever the number of steps; its state is one image per example.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from genax.core import GenaxError, example_keys, pure
from genax.core.task import Batch
from genax.diffusion.losses import Condition, unconditional
from genax.diffusion.predictions import EPSILON, Prediction, noise_of, predict_clean
from genax.diffusion.process import DiscreteProcess, fixed_large

Spacing = Callable[[int, int], np.ndarray]


def leading(num_timesteps: int, num_steps: int) -> np.ndarray:
    """Timesteps 0, k, 2k, ... for k = T // num_steps, last first (Lin et al. 2023, table 2)."""
    _check_steps(num_timesteps, num_steps)
    return np.arange(num_steps)[::-1] * (num_timesteps // num_steps)


def trailing(num_timesteps: int, num_steps: int) -> np.ndarray:
    """Timesteps T-1, T-1-k, ... for k = T / num_steps (Lin et al. 2023, table 2).

    Begins where there is nothing but noise.
    """
    _check_steps(num_timesteps, num_steps)
    remaining = np.arange(num_steps, 0, -1)
    return np.round(remaining * num_timesteps / num_steps).astype(int) - 1


def _check_steps(num_timesteps: int, num_steps: int) -> None:
    if not 1 <= num_steps <= num_timesteps:
        raise GenaxError(
            f"{num_steps} sampling steps of a process of {num_timesteps} timesteps: choose between "
            f"1 and {num_timesteps}."
        )


def ancestral_step(
    process: DiscreteProcess,
    noisy: Float[Array, "b ..."],
    clean: Float[Array, "b ..."],
    timesteps: Array,
    deviation: float | Array,
    noise: Float[Array, "b ..."],
) -> Float[Array, "b ..."]:
    """x_{t-1}: the posterior mean given the predicted x_0, plus noise (Ho et al. 2020, alg. 2)."""
    return process.posterior_mean(clean, noisy, timesteps) + deviation * noise


def ancestral_sampler(
    nets: nn.Module,
    batch: Batch,
    process: DiscreteProcess,
    shape: Sequence[int],
    prediction: Prediction = EPSILON,
    variance: Callable[[DiscreteProcess], np.ndarray] = fixed_large,
    clip_denoised: bool = True,
    condition: Condition = unconditional,
) -> Float[Array, "n h w c"]:
    """All T steps of the reverse chain (Ho et al. 2020, algorithm 2), the last without noise.

    batch["index"]: [n]. shape: of one image. variance: `fixed_small` or `fixed_large`, or another
    function to a table [T]. clip_denoised: clip the predicted x_0 to [-1, 1].
    """
    deviations = np.sqrt(variance(process))
    deviations[0] = 0.0

    def step(noisy, output, timesteps, deviation, draw):
        clean = predict_clean(process, prediction, output, noisy, timesteps, clip_denoised)
        return ancestral_step(process, noisy, clean, timesteps, deviation, draw())

    timesteps = np.arange(process.num_timesteps)[::-1]
    return _sample(nets, batch, step, timesteps, deviations[::-1], shape, condition)


class DDIMCoefficients(NamedTuple):
    """x_before = signal * clean + direction * predicted noise + deviation * new noise."""

    signal: Any
    direction: Any
    deviation: Any


def ddim_coefficients(
    process: DiscreteProcess, timesteps: np.ndarray, eta: float = 0.0
) -> DDIMCoefficients:
    """Return those of the steps through falling timesteps to the data: float64 [num_steps] each.

    Song et al. 2021, eq. 12 and 16 (whose alpha is alphas_cumprod). Raises GenaxError for an eta
    below 0, or above 1, with which a step would add more noise than there is at its end.
    """
    if not 0 <= eta <= 1:
        raise GenaxError(
            f"eta={eta} of DDIM has to be from 0 to 1: 0 adds no noise, 1 as much as DDPM."
        )
    now = process.alphas_cumprod[timesteps]
    before = np.append(now[1:], 1.0)
    deviation = eta * np.sqrt((1 - before) / (1 - now) * (1 - now / before))
    direction = np.sqrt(np.maximum(1 - before - deviation**2, 0.0))
    return DDIMCoefficients(np.sqrt(before), direction, deviation)


def ddim_step(
    process: DiscreteProcess,
    noisy: Float[Array, "b ..."],
    clean: Float[Array, "b ..."],
    timesteps: Array,
    coefficients: DDIMCoefficients,
    noise: Float[Array, "b ..."] | float = 0.0,
) -> Float[Array, "b ..."]:
    """One step (Song et al. 2021, eq. 12); the predicted noise is what `clean` implies."""
    predicted = noise_of(process, clean, noisy, timesteps)
    signal, direction, deviation = coefficients
    return signal * clean + direction * predicted + deviation * noise


def ddim_sampler(
    nets: nn.Module,
    batch: Batch,
    process: DiscreteProcess,
    shape: Sequence[int],
    num_steps: int = 50,
    eta: float = 0.0,
    spacing: Spacing = leading,
    prediction: Prediction = EPSILON,
    clip_denoised: bool = True,
    condition: Condition = unconditional,
) -> Float[Array, "n h w c"]:
    """Denoising diffusion implicit models (Song et al. 2021, eq. 12), in `num_steps` steps.

    eta: 0 is deterministic after the first noise, 1 has the variances of DDPM. spacing: which
    timesteps. clip_denoised: clip the predicted x_0 to [-1, 1] and take the noise that goes with
    it. Others as in `ancestral_sampler`. Raises GenaxError if num_steps is not from 1 to T, or eta
    not from 0 to 1.
    """

    def step(noisy, output, timesteps, coefficients, draw):
        clean = predict_clean(process, prediction, output, noisy, timesteps, clip_denoised)
        noise = draw() if eta else 0.0
        return ddim_step(process, noisy, clean, timesteps, coefficients, noise)

    timesteps = spacing(process.num_timesteps, num_steps)
    coefficients = ddim_coefficients(process, timesteps, eta)
    return _sample(nets, batch, step, timesteps, coefficients, shape, condition)


def _sample(
    nets: nn.Module,
    batch: Batch,
    step: Callable[[Array, Array, Array, Any, Callable[[], Array]], Array],
    timesteps: np.ndarray,
    coefficients: Any,
    shape: Sequence[int],
    condition: Condition,
) -> Float[Array, "n h w c"]:
    """Noise, then `step` at each of the falling timesteps, with its row of the coefficients."""
    keys = example_keys(nets, batch)
    arguments = condition(batch)
    count = keys.shape[0]

    def draw(number) -> Array:
        def normal(key: Key[Array, ""]) -> Array:
            return jax.random.normal(jax.random.fold_in(key, number), tuple(shape))

        return jax.vmap(normal)(keys)

    noise = draw(0)
    denoiser = pure(nets.denoiser, noise, jnp.zeros(count, jnp.int32), **arguments)

    def body(noisy, inputs):
        number, timestep, row = inputs
        now = jnp.full(count, timestep)
        output = denoiser(noisy, now, **arguments)
        return step(noisy, output, now, row, lambda: draw(number)), None

    rows = jax.tree.map(lambda table: jnp.asarray(table, jnp.float32), coefficients)
    plan = (jnp.arange(1, len(timesteps) + 1), jnp.asarray(timesteps, jnp.int32), rows)
    return lax.scan(body, noise, plan)[0]
