"""The convolutional residual block of diffusion models and of latent autoencoders."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from genax.nn.convolution import Conv
from genax.nn.group_norm import GroupNorm, silu
from genax.nn.initializers import fan_avg_uniform


class ResidualBlock(nn.Module):
    """Norm, SiLU, conv; add the conditioning vector; norm, SiLU, dropout, conv; residual sum.

    features: output channels. If the input has another number, the shortcut is a 1x1 convolution.
    num_groups: see `GroupNorm`.
    scale_shift: let the conditioning vector scale and shift the second norm's output (the adaptive
      group norm of ADM, Dhariwal & Nichol 2021, section 3.1) instead of adding it before.
    resample: change of resolution of both branches, after the first SiLU and on the shortcut, as in
      BigGAN.
    project: make the shortcut a 1x1 convolution also if the width stays.
    rescale: factor of the sum.
    """

    features: int
    dropout: float = 0.0
    num_groups: int | None = 32
    epsilon: float = 1e-6
    scale_shift: bool = False
    resample: Callable[[Array], Array] | None = None
    project: bool = False
    rescale: float = 1.0
    kernel_init: Initializer = fan_avg_uniform()
    output_init: Initializer = fan_avg_uniform(0.0)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        condition: Float[Array, "b d"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b H W features"]:
        """Return the block's output.

        condition: [b, d], which acts on every pixel through SiLU and a dense layer. None does
          nothing.
        train: whether dropout is on.
        """
        norm = partial(GroupNorm, self.num_groups, self.epsilon)
        conv = partial(Conv, self.features, dtype=self.dtype)
        y = norm(silu=True, name="norm_0")(x)
        if self.resample is not None:
            x, y = self.resample(x), self.resample(y)
        y = conv(kernel_init=self.kernel_init, name="conv_0")(y)
        if condition is not None:
            dense = nn.Dense(
                self.features * (1 + self.scale_shift),
                dtype=self.dtype,
                kernel_init=self.kernel_init,
                name="condition",
            )
            condition = dense(nn.silu(condition))[:, None, None, :]
        if condition is not None and self.scale_shift:
            scale, shift = jnp.split(condition, 2, axis=-1)
            y = silu(norm(name="norm_1")(y) * (1 + scale) + shift)
        else:
            y = norm(silu=True, name="norm_1")(y if condition is None else y + condition)
        y = nn.Dropout(self.dropout)(y, deterministic=not train)
        y = conv(kernel_init=self.output_init, name="conv_1")(y)
        if self.project or x.shape[-1] != self.features:
            x = conv(kernel_size=(1, 1), kernel_init=self.kernel_init, name="shortcut")(x)
        return x + y if self.rescale == 1 else (x + y) * self.rescale
