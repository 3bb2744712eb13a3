"""Batch normalisation over the global batch, for any split of the batch over devices."""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.nn.initializers import Initializer, ones, zeros
from jaxtyping import Array, Float

from genax.core.nets import batch_axis


def batch_moments(
    x: Float[Array, "*batch c"],
) -> tuple[Float[Array, " c"], Float[Array, " c"], int]:
    """Return each channel's mean and biased variance over the global batch, and the count.

    The count is the number of values per channel. Mean and variance are float32 for every dtype of
    x. The variance is the mean square of x - mean. The mean square of x minus the squared mean
    would need one pass and one collective less, but cancels if the mean is large.
    """
    axes = tuple(range(x.ndim - 1))
    axis = batch_axis()

    def mean_of(values):
        local = values.mean(axes)
        return local if axis is None else lax.pmean(local, axis)

    x = x.astype(jnp.float32)
    mean = mean_of(x)
    variance = mean_of(jnp.square(x - mean))
    count = math.prod(x.shape[:-1]) * (1 if axis is None else lax.axis_size(axis))
    return mean, variance, count


class BatchNorm(nn.Module):
    """Batch normalisation, Ioffe & Szegedy 2015, algorithm 1.

    y = scale (x - mean) / sqrt(variance + epsilon) + bias, with the moments of the batch during
    training and their running averages otherwise. A running average moves by average <- momentum
    average + (1 - momentum) moment. PyTorch calls 1 - momentum its momentum. As in PyTorch and the
    paper (algorithm 2), the running variance averages the unbiased estimate, n / (n - 1) times the
    variance that normalises.

    The batch is the global one under jit and pmap alike. A pass that may not change "batch_stats",
    such as a sampler's, can still normalise by its own batch with train=True.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    use_bias: bool = True
    use_scale: bool = True
    scale_init: Initializer = ones
    bias_init: Initializer = zeros

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch c"], train: bool = False
    ) -> Float[Array, "*batch c"]:
        """Return x normalised over all axes but the last, in the dtype of x."""
        channels = x.shape[-1]
        scale = self.param("scale", self.scale_init, (channels,)) if self.use_scale else 1.0
        bias = self.param("bias", self.bias_init, (channels,)) if self.use_bias else 0.0
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_variance = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        if train:
            mean, variance, count = batch_moments(x)
            # The batch during initialisation is not data.
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                unbiased = variance * (count / max(count - 1, 1))
                for running, moment in ((running_mean, mean), (running_variance, unbiased)):
                    moment = lax.stop_gradient(moment)
                    running.value = self.momentum * running.value + (1 - self.momentum) * moment
        else:
            mean, variance = running_mean.value, running_variance.value
        factor = scale * lax.rsqrt(variance + self.epsilon)
        return ((x.astype(jnp.float32) - mean) * factor + bias).astype(x.dtype)
