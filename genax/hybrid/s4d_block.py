"""The block of S4D: a diagonal state space for each channel, and a mixing of channels."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from genax.core.errors import GenaxError
from genax.hybrid.recurrent_state import LayerState
from genax.hybrid.s4d_kernel import Modes, convolve, discretise, kernel_of, response, state_after
from genax.nn.gelu import gelu
from genax.nn.initializers import fan_in_uniform
from genax.nn.projection import Projection


class S4DMixer(nn.Module):
    """S4D-Lin (Gu et al. 2022, arXiv:2206.11893), with zero-order hold and a skip.

    Each channel is a state space of its own, y = 2 Re(C state) + D u. Then GELU, and a gated linear
    unit that mixes channels: a sigmoid(g) with [a, g] = W gelu(y). A is -1/2 + i pi n at first, C
    complex normal, D normal, and the steps are log-uniform.

    Parameters: "log_dt" [d], "log_A_real" and "A_imag" [d, n], "C" [d, n, 2], "D" [d], and the
      mixing "output". The authors' code trains the first three without decay, at a rate of 1e-3 at
      most: see `genax.hybrid.optimizers`.
    state_size: modes of a channel with their conjugates, of which half are computed; even.
    smallest, largest: of the steps.
    dropout: rate of dropout before the mixing.
    dtype: of the mixing. The state space is float32.
    """

    state_size: int = 64
    smallest: float = 1e-3
    largest: float = 0.1
    dropout: float = 0.0
    dtype: Any = jnp.float32

    def __post_init__(self):
        if self.state_size < 2 or self.state_size % 2:
            raise GenaxError(
                f"S4DMixer(state_size={self.state_size}): modes come with their conjugates; choose "
                "an even number."
            )
        super().__post_init__()

    def empty(self, batch_size: int, width: int) -> LayerState:
        """Return the state before the first token, for inputs of a width."""
        return LayerState(
            jnp.zeros((batch_size, 0, width), self.dtype),
            jnp.zeros((batch_size, width, self.state_size // 2, 2)),
        )

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        before: LayerState | None = None,
        real: Bool[Array, "b t"] | None = None,
        train: bool = False,
    ) -> tuple[Float[Array, "b t d"], LayerState | None]:
        """Return the new values of x, and the state after the last real token, if one was given.

        before: the state before the first token. None means that of an empty sequence.
        real: which tokens are real, before all others. None means all.
        """
        u = x.astype(jnp.float32)
        modes = self._modes(u.shape[-1])
        y, after = convolve(u, kernel_of(modes, u.shape[1])), None
        if before is not None:
            state = jax.lax.complex(before.state[..., 0], before.state[..., 1])
            y = y + response(modes, state, u.shape[1])
            state = state_after(modes, state, u, real)
            after = LayerState(before.window, jnp.stack([state.real, state.imag], axis=-1))
        y = gelu(y + u * self.param("D", nn.initializers.normal(1.0), u.shape[-1:]))
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        mixing = Projection((2, u.shape[-1]), 1, True, fan_in_uniform(), self.dtype, name="output")
        y = mixing(y)
        return y[..., 0, :] * nn.sigmoid(y[..., 1, :]), after

    def _modes(self, channels: int) -> Modes:
        shape = (channels, self.state_size // 2)
        ends = math.log(self.smallest), math.log(self.largest)

        def steps(key, shape):
            return jax.random.uniform(key, shape, jnp.float32, *ends)

        def frequencies(key, shape):
            return jnp.broadcast_to(math.pi * jnp.arange(shape[-1], dtype=jnp.float32), shape)

        return discretise(
            self.param("log_dt", steps, shape[:1]),
            self.param("log_A_real", nn.initializers.constant(math.log(0.5)), shape),
            self.param("A_imag", frequencies, shape),
            # Of variance 1 as a complex number.
            self.param("C", nn.initializers.normal(math.sqrt(0.5)), (*shape, 2)),
        )
