"""The block of Mamba."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from genax.hybrid.causal_convolution import CausalConvolution
from genax.hybrid.recurrent_state import LayerState
from genax.hybrid.selective_scan import selective_scan
from genax.hybrid.time_steps import TimeSteps
from genax.nn.initializers import fan_in_uniform
from genax.nn.projection import Projection


class MambaMixer(nn.Module):
    """A convolution and a selective scan of expanded channels, times a gate.

    Gu & Dao 2023, section 3.4 and fig. 3: [x, z] = W_in u, x = silu(conv(x)), [r, B, C] = W_s x,
    dt = softplus(W_dt r + bias), y = (scan(x, dt, A, B, C) + D x) silu(z), and W_out y.

    Parameters besides the layers': A_log [inner, state_size] with A = -exp(A_log), which begins as
    -1 ... -state_size for each channel, D [inner], and time_step_bias [inner].

    state_size: states of a channel.
    expand: channels for each number of the width.
    conv_width: tokens that the convolution reads.
    time_step_rank: size of r. 0 means the width / 16, rounded up.
    use_bias: whether W_in and W_out have biases.
    conv_bias: whether the convolution has one.
    output_scale: the initial W_out is drawn `output_scale` times as wide as PyTorch's linear layer.
    scan: what computes a chunk, "xla" or "pallas": see `selective_scan`.
    """

    state_size: int = 16
    expand: int = 2
    conv_width: int = 4
    time_step_rank: int = 0
    use_bias: bool = False
    conv_bias: bool = True
    output_scale: float = 1.0
    time_steps: TimeSteps = TimeSteps()
    scan: str = "xla"
    dtype: Any = jnp.float32

    def empty(self, batch_size: int, width: int) -> LayerState:
        """Return the state before the first token, for inputs of a width."""
        inner = self.expand * width
        return LayerState(
            jnp.zeros((batch_size, self.conv_width - 1, inner), self.dtype),
            jnp.zeros((batch_size, self.state_size, inner)),
        )

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        before: LayerState | None = None,
        real: Bool[Array, "b t"] | None = None,
        train: bool = False,
    ) -> tuple[Float[Array, "b t d"], LayerState]:
        """Return the new values of x, and the state after the last real token.

        before: the state before the first token. None means that of an empty sequence.
        real: which tokens are real, before all others. None means all.
        """
        width = x.shape[-1]
        inner, n = self.expand * width, self.state_size
        rank = self.time_step_rank or math.ceil(width / 16)

        def project(features, name, init, use_bias=False):
            return Projection(features, 1, use_bias, init, self.dtype, name=name)

        both = project((2, inner), "input", fan_in_uniform(), self.use_bias)(x)
        x, gate = both[:, :, 0], both[:, :, 1]
        convolution = CausalConvolution(
            self.conv_width, self.conv_bias, self.dtype, name="convolution"
        )
        x, window = convolution(x, None if before is None else before.window, real, train)
        x = nn.silu(x)
        selected = project((rank + 2 * n,), "selection", fan_in_uniform())(x)
        low, B, C = jnp.split(selected, [rank, rank + n], axis=-1)
        time_step = project((inner,), "time_step", fan_in_uniform())(low)
        bias = self.param("time_step_bias", self.time_steps, (inner,))
        time_step = jax.nn.softplus(time_step.astype(jnp.float32) + bias)
        if real is not None:
            time_step = jnp.where(real[..., None], time_step, 0)
        A = -jnp.exp(self.param("A_log", log_of_counted, (inner, n)))
        D = self.param("D", nn.initializers.ones, (inner,))
        state = None if before is None else before.state
        y, state = selective_scan(x, time_step, A, B, C, state, kernel=self.scan)
        y = ((y + D * x) * nn.silu(gate)).astype(self.dtype)
        y = project((width,), "output", fan_in_uniform(self.output_scale), self.use_bias)(y)
        return y, LayerState(window, state)


def log_of_counted(key, shape, dtype=jnp.float32):
    """Return log(1 ... n) along the last axis: an initial distribution without chance."""
    return jnp.broadcast_to(jnp.log(jnp.arange(1, shape[-1] + 1, dtype=dtype)), shape)
