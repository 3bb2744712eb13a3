"""Losses of denoisers. The task's networks have a submodule `denoiser`."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genax.core import GenaxError, Loss, per_example
from genax.core.task import Batch
from genax.diffusion.coupling import Coupling, independent
from genax.diffusion.predictions import EPSILON, Prediction, at_times, split_variance
from genax.diffusion.process import Process, expand, q_sample
from genax.diffusion.weightings import Weighting, uniform
from genax.nn.conditions import Condition, unconditional


def mean_over_pixels(x: Float[Array, "b ..."]) -> Float[Array, " b"]:
    """Return the mean of each example."""
    return x.mean(axis=tuple(range(1, x.ndim)))


def images_of(batch: Batch) -> Float[Array, "b ..."]:
    """Return the batch's images.

    Raises GenaxError for whole numbers, such as levels from 0 to 255, and, outside of jit, for
    images outside [-1, 1] that `on_augmented` did not change.
    """
    image = batch["image"]
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise GenaxError(
            f"a loss of denoisers got images of {image.dtype}: it takes floats in [-1, 1]; "
            "scale the levels 0 to 255 by image / 127.5 - 1."
        )
    augmented = "augmentation" in batch
    if not isinstance(image, jax.core.Tracer) and np.size(image) and not augmented:
        values = np.asarray(image)
        least, most = float(values.min()), float(values.max())
        # Rounding may leave the range by a little.
        if least < -1 - 1e-4 or most > 1 + 1e-4:
            raise GenaxError(
                f"a loss of denoisers got images from {least:.4g} to {most:.4g}: it takes floats "
                "in [-1, 1]; scale them, for ImageData by range=(-1.0, 1.0)."
            )
    return jnp.asarray(image)


def corrupted(
    nets: nn.Module, batch: Batch, process: Process, coupling: Coupling = independent
) -> tuple[Array, Float[Array, "b ..."], Float[Array, "b ..."], Float[Array, "b ..."]]:
    """Return a random time for each image of the batch, the images, noise, and noisy images.

    coupling: joins images and noise, see `optimal_transport`.
    """
    clean = images_of(batch)
    timesteps = per_example(process.sample_time, nets, batch)
    noise = per_example(jax.random.normal, nets, batch, clean.shape[1:], clean.dtype)
    noise = coupling(clean, noise)
    return timesteps, clean, noise, q_sample(process, clean, noise, timesteps)


def squared_error(
    process: Process,
    prediction: Prediction,
    weighting: Weighting,
    output: Float[Array, "b ..."],
    clean: Float[Array, "b ..."],
    noise: Float[Array, "b ..."],
    timesteps: Array,
) -> Float[Array, " b"]:
    """Return the weighted squared error of outputs, a mean over pixels."""
    signal, sigma = process.signal(timesteps), process.sigma(timesteps)
    target = prediction.target(clean, noise, expand(signal, clean), expand(sigma, clean))
    error = mean_over_pixels(jnp.square(output - target))
    return weighting(prediction, signal, sigma) * error


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

    A learned variance is not trained by this loss, see `hybrid_loss`.

    batch["image"]: [b, h, w, c] in [-1, 1].
    condition: further arguments of the denoiser.
    weighting: factor of an example's error by its time.
    coupling: joins images and noise, see `optimal_transport`.
    train: whether dropout is on. False gives a held-out error.
    Raises GenaxError for images that `images_of` refuses.
    """
    timesteps, clean, noise, noisy = corrupted(nets, batch, process, coupling)
    network = at_times(nets.denoiser, process, prediction)
    output = network(noisy, timesteps, train=train, **condition(nets, batch))
    output, _ = split_variance(prediction, output, noisy)
    return Loss(squared_error(process, prediction, weighting, output, clean, noise, timesteps))
