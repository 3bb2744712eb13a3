"""Depthwise convolution over a token and those before it, for whole sequences and for one token."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from genax.nn.initializers import fan_in_uniform


class CausalConvolution(nn.Module):
    """y_t = sum over k of kernel_k x_(t - width + 1 + k), each channel by itself, plus a bias.

    Tokens before the first one are zeros. On a CPU, XLA computes a sum of shifted products many
    times as fast as a convolution whose groups are single channels.

    Parameters: "kernel" [width, d] and, with use_bias, "bias" [d], drawn as PyTorch draws them.
    """

    width: int = 4
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        window: Float[Array, "b w d"] | None = None,
        real: Bool[Array, "b t"] | None = None,
        train: bool = False,
    ) -> tuple[Float[Array, "b t d"], Float[Array, "b w d"]]:
        """Return the convolution and the last width - 1 real inputs.

        window: [b, width - 1, d], the inputs before the first one. None means zeros.
        real: which tokens are real, before all others. None means all.
        """
        b, t, d = x.shape
        kernel = self.param("kernel", fan_in_uniform(), (self.width, d)).astype(self.dtype)
        before = self.width - 1
        if window is None:
            window = jnp.zeros((b, before, d), self.dtype)
        inputs = jnp.concatenate([window.astype(self.dtype), x.astype(self.dtype)], axis=1)
        y = kernel[0] * inputs[:, :t]
        for k in range(1, self.width):
            y = y + kernel[k] * inputs[:, k : k + t]
        if self.use_bias:

            def init(key, shape, dtype=jnp.float32):
                return fan_in_uniform()(key, (self.width, *shape), dtype)[0]

            y = y + self.param("bias", init, (d,)).astype(self.dtype)
        if real is None:
            return y, inputs[:, t:]
        last = real.sum(1, dtype=jnp.int32)[:, None] + jnp.arange(before)
        return y, jnp.take_along_axis(inputs, last[..., None], axis=1)
