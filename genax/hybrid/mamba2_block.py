"""The block of Mamba-2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from genax.core.errors import GenaxError
from genax.hybrid.causal_convolution import CausalConvolution
from genax.hybrid.recurrent_state import LayerState
from genax.hybrid.state_space_dual import CHUNK, state_space_dual
from genax.hybrid.time_steps import TimeSteps
from genax.nn.initializers import fan_in_uniform
from genax.nn.projection import Projection


def log_of_uniform(key, shape, dtype=jnp.float32):
    """Return the logarithms of numbers drawn uniformly from [1, 16]: A_log of the official code."""
    return jnp.log(jax.random.uniform(key, shape, dtype, 1.0, 16.0))


def num_heads(channels: int, head_dim: int, groups: int) -> int:
    """Return the number of heads of so many channels.

    Raises GenaxError for heads and groups that do not divide the channels.
    """
    heads = channels // head_dim
    if not heads or heads * head_dim != channels or heads % groups:
        raise GenaxError(
            f"Mamba-2: {channels} channels are not heads of {head_dim} in {groups} equal groups; "
            "choose head_dim and groups that divide them."
        )
    return heads


class GatedRMSNorm(nn.Module):
    """RMSNorm of y silu(z) over each of `groups` parts of the last axis: Dao & Gu 2024, section 7.

    The mean square is float32 for every dtype.
    """

    groups: int = 1
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, y: Float[Array, "*b d"], gate: Float[Array, "*b d"], train: bool = False
    ) -> Float[Array, "*b d"]:
        """Return the normalised product, float32."""
        scale = self.param("scale", nn.initializers.ones, (y.shape[-1],))
        wide = y.astype(jnp.float32) * nn.silu(gate.astype(jnp.float32))
        parts = wide.reshape(*wide.shape[:-1], self.groups, -1)
        inverse = lax.rsqrt(jnp.square(parts).mean(-1, keepdims=True) + self.epsilon)
        return (parts * inverse).reshape(wide.shape) * scale


class Mamba2Mixer(nn.Module):
    """A convolution and a scan of heads, whose inputs all come of one projection.

    Dao & Gu 2024, section 7.1 and fig. 6: [z, x, B, C, dt] = W_in u, silu(conv([x, B, C])), dt =
    softplus(dt + bias), y = scan(x, dt, A, B, C) + D x, and W_out norm(y silu(z)).

    Parameters besides the layers': A_log [heads] with A = -exp(A_log), D [heads] and time_step_bias
    [heads].

    state_size: size of B and C.
    expand: channels for each number of the width.
    conv_width: tokens that the convolution reads.
    head_dim: channels of a head.
    groups: sets of heads that share a B and a C, and parts of the norm.
    chunk: tokens of a chunk, see `state_space_dual`.
    epsilon: of the norm.
    use_bias: whether W_in and W_out have biases.
    conv_bias: whether the convolution has one.
    output_scale: the initial W_out is drawn `output_scale` times as wide as PyTorch's linear layer.
    decay_init: draws the initial A_log.
    """

    state_size: int = 128
    expand: int = 2
    conv_width: int = 4
    head_dim: int = 64
    groups: int = 1
    chunk: int = CHUNK
    epsilon: float = 1e-5
    use_bias: bool = False
    conv_bias: bool = True
    output_scale: float = 1.0
    time_steps: TimeSteps = TimeSteps()
    decay_init: Callable[..., Any] = log_of_uniform
    dtype: Any = jnp.float32

    def empty(self, batch_size: int, width: int) -> LayerState:
        """Return the state before the first token, for inputs of a width."""
        heads = num_heads(self.expand * width, self.head_dim, self.groups)
        channels = self.expand * width + 2 * self.groups * self.state_size
        return LayerState(
            jnp.zeros((batch_size, self.conv_width - 1, channels), self.dtype),
            jnp.zeros((batch_size, heads, self.head_dim, self.state_size)),
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
        Raises GenaxError for sizes that `num_heads` refuses.
        """
        (b, t, width), inner = x.shape, self.expand * x.shape[-1]
        heads = num_heads(inner, self.head_dim, self.groups)
        shared = self.groups * self.state_size
        features = (2 * inner + 2 * shared + heads,)
        joint = Projection(
            features, 1, self.use_bias, fan_in_uniform(), self.dtype, name="joint_input"
        )(x)
        gate, xBC, time_step = jnp.split(joint, [inner, 2 * inner + 2 * shared], axis=-1)
        convolution = CausalConvolution(
            self.conv_width, self.conv_bias, self.dtype, name="convolution"
        )
        xBC, window = convolution(xBC, None if before is None else before.window, real, train)
        x, B, C = jnp.split(nn.silu(xBC), [inner, inner + shared], axis=-1)
        x = x.reshape(b, t, heads, self.head_dim)
        B, C = (part.reshape(b, t, self.groups, self.state_size) for part in (B, C))
        bias = self.param("time_step_bias", self.time_steps, (heads,))
        time_step = jax.nn.softplus(time_step.astype(jnp.float32) + bias)
        if real is not None:
            time_step = jnp.where(real[..., None], time_step, 0)
        A = -jnp.exp(self.param("A_log", self.decay_init, (heads,)))
        D = self.param("D", nn.initializers.ones, (heads,))
        state = None if before is None else before.state
        y, state = state_space_dual(x, time_step, A, B, C, state, self.chunk)
        y = (y + D[:, None] * x).reshape(b, t, inner)
        y = GatedRMSNorm(self.groups, self.epsilon, name="norm")(y, gate, train).astype(self.dtype)
        y = Projection(
            (width,),
            1,
            self.use_bias,
            fan_in_uniform(self.output_scale),
            self.dtype,
            name="output",
        )(y)
        return y, LayerState(window, state)
