"""The convolutional residual block of diffusion models and of latent autoencoders."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from genax.nn.convolution import Conv
from genax.nn.group_norm import GroupNorm
from genax.nn.initializers import fan_avg_uniform


class ResidualBlock(nn.Module):
    """Norm, SiLU, conv; add the conditioning vector; norm, SiLU, dropout, conv; residual sum.

    features: output channels. If the input has another number, the shortcut is a 1x1 convolution.
    """

    features: int
    dropout: float = 0.0
    num_groups: int = 32
    epsilon: float = 1e-6
    kernel_init: Initializer = fan_avg_uniform()
    output_init: Initializer = fan_avg_uniform(0.0)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        condition: Float[Array, "b d"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b h w features"]:
        """Return the block's output.

        condition: [b, d], added to every pixel through SiLU and a dense layer. None adds nothing.
        train: whether dropout is on.
        """
        norm = partial(GroupNorm, self.num_groups, self.epsilon, silu=True)
        conv = partial(Conv, self.features, dtype=self.dtype)
        y = norm(name="norm_0")(x)
        y = conv(kernel_init=self.kernel_init, name="conv_0")(y)
        if condition is not None:
            dense = nn.Dense(
                self.features, dtype=self.dtype, kernel_init=self.kernel_init, name="condition"
            )
            shift = dense(nn.silu(condition))
            y = y + shift[:, None, None, :]
        y = norm(name="norm_1")(y)
        y = nn.Dropout(self.dropout)(y, deterministic=not train)
        y = conv(kernel_init=self.output_init, name="conv_1")(y)
        if x.shape[-1] != self.features:
            x = conv(kernel_size=(1, 1), kernel_init=self.kernel_init, name="shortcut")(x)
        return x + y
