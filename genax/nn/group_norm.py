"""Group normalisation, with the activation that usually follows it."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from genax.core.errors import GenaxError


def group_norm(
    x: Float[Array, "b *space c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    num_groups: int,
    epsilon: float = 1e-6,
) -> Float[Array, "b *space c"]:
    """Normalise over space and over the channels of each group (Wu & He 2018, eq. 1 and 7).

    Statistics and result are float32 for every dtype of x.
    Raises GenaxError if the groups do not divide the channels.
    """
    batch, channels = x.shape[0], x.shape[-1]
    if channels % num_groups:
        raise GenaxError(
            f"group_norm: {channels} channels do not divide into {num_groups} groups; choose "
            "num_groups among the divisors of every layer's channels."
        )
    pixels = x.reshape(batch, -1, channels).astype(jnp.float32)
    # One pass gives both moments of every channel. They are taken about one pixel of the channel,
    # so that they do not cancel if the mean is large. The result does not depend on which pixel, so
    # no gradient passes through it.
    about = lax.stop_gradient(pixels[:, :1])
    offset = pixels - about
    first = offset.mean(1)
    variance = jnp.square(offset).mean(1) - jnp.square(first)
    means = (first + about[:, 0]).reshape(batch, num_groups, -1)
    mean = means.mean(-1, keepdims=True)
    # The variance of a group is the mean variance within its channels plus the variance between
    # them.
    within = variance.reshape(means.shape)
    variance = (within + jnp.square(means - mean)).mean(-1, keepdims=True)
    # Each pixel costs one multiplication and one addition. All else is per channel.
    factor = (lax.rsqrt(variance + epsilon) * scale.reshape(num_groups, -1)).astype(jnp.float32)
    shift = bias.reshape(num_groups, -1) - mean * factor
    factor, shift = (a.reshape(batch, 1, channels) for a in (factor, shift))
    return (pixels * factor + shift).reshape(x.shape)


def silu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Compute x * sigmoid(x) with tanh, which XLA vectorises on every device."""
    return x * (0.5 * jnp.tanh(0.5 * x) + 0.5)


class GroupNorm(nn.Module):
    """Group normalisation over the axes between batch and channels, optionally with SiLU.

    num_groups: None means groups of four channels or more, and at most 32 groups, as in the code of
      score-based SDEs.
    """

    num_groups: int | None = 32
    epsilon: float = 1e-6
    silu: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *space c"], train: bool = False
    ) -> Float[Array, "b *space c"]:
        """Return the normalised x in the dtype of x, computed in float32."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        groups = self.num_groups or max(min(x.shape[-1] // 4, 32), 1)
        y = group_norm(x, scale, bias, groups, self.epsilon)
        return (silu(y) if self.silu else y).astype(x.dtype)
