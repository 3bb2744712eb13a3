"""Losses that also train the variances of the reverse steps (Nichol & Dhariwal 2021)."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax

from genax.core import Loss
from genax.core.task import Batch
from genax.diffusion.likelihood import NATS_TO_BITS, variational_term
from genax.diffusion.losses import corrupted, squared_error
from genax.diffusion.predictions import (
    EPSILON_AND_VARIANCE,
    Prediction,
    at_times,
    split_variance,
)
from genax.diffusion.process import DiscreteProcess, learned_range
from genax.diffusion.weightings import Weighting, uniform
from genax.nn.conditions import Condition, unconditional


def hybrid_loss(
    nets: nn.Module,
    batch: Batch,
    process: DiscreteProcess,
    prediction: Prediction = EPSILON_AND_VARIANCE,
    condition: Condition = unconditional,
    weighting: Weighting = uniform,
    factor: float = 0.001,
    num_levels: int = 256,
    train: bool = True,
) -> Loss:
    """L_simple + factor * L_vlb (Nichol & Dhariwal 2021, eq. 16).

    L_vlb is the variational bound in bits per dimension without its constant term L_T, estimated at
    the timestep of L_simple. It trains the variances only: its gradient does not reach the mean.

    batch["image"]: [b, h, w, c] in [-1, 1], with `num_levels` levels.
    prediction: a prediction `with_variance`.
    weighting: factor of L_simple by its time.
    factor: 0.001 in the paper. DiT (Peebles & Xie 2023) adds the one term of L_vlb as it is and not
      T times: 1 / T.
    train: whether dropout is on.
    """
    timesteps, clean, noise, noisy = corrupted(nets, batch, process)
    network = at_times(nets.denoiser, process, prediction)
    output = network(noisy, timesteps, train=train, **condition(nets, batch))
    mean, _ = split_variance(prediction, output, noisy)
    simple = squared_error(process, prediction, weighting, mean, clean, noise, timesteps)
    channels = clean.shape[-1]
    held = jnp.concatenate([lax.stop_gradient(mean), output[..., channels:]], axis=-1)
    term = variational_term(
        process, prediction, learned_range(process), held, clean, noisy, timesteps, num_levels
    )
    bits = process.num_timesteps * term * NATS_TO_BITS
    return Loss(simple + factor * bits, aux={"simple": simple, "variational": bits})


def variational_loss(
    nets: nn.Module,
    batch: Batch,
    process: DiscreteProcess,
    prediction: Prediction = EPSILON_AND_VARIANCE,
    condition: Condition = unconditional,
    variance: Callable[[DiscreteProcess], np.ndarray] = learned_range,
    num_levels: int = 256,
    train: bool = True,
) -> Loss:
    """L_vlb alone: the variational bound in bits per dimension without its constant term L_T.

    One timestep is drawn for each image, all equally likely, so the loss varies more than the
    others (Nichol & Dhariwal 2021, section 3.3). It trains the mean as well as the variances.

    batch["image"]: [b, h, w, c] in [-1, 1], with `num_levels` levels.
    variance: variances of the reverse steps, see `ancestral`.
    """
    timesteps, clean, _, noisy = corrupted(nets, batch, process)
    network = at_times(nets.denoiser, process, prediction)
    output = network(noisy, timesteps, train=train, **condition(nets, batch))
    term = variational_term(
        process,
        prediction,
        variance(process),
        output,
        clean,
        noisy,
        timesteps,
        num_levels,
    )
    return Loss(process.num_timesteps * term * NATS_TO_BITS)
