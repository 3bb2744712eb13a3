"""The gated position-wise network of a Transformer block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from genax.nn.projection import Projection


class GatedFeedForward(nn.Module):
    """Gated network (activation(x W) * x V) W2: Shazeer 2020, eq. 5. SwiGLU by default.

    hidden_size: number of columns of W ("gate") and V ("expand").
    joint: project to both at once, by "expand_and_gate" [d, 2, hidden], as diffusers does.
    """

    hidden_size: int
    activation: Callable[[jax.Array], jax.Array] = nn.silu
    use_bias: bool = False
    kernel_init: Initializer = nn.initializers.lecun_normal()
    output_init: Initializer = nn.initializers.lecun_normal()
    dtype: Any = jnp.float32
    joint: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Return the output, of the width of x."""

        def project(features, init, name):
            return Projection(features, 1, self.use_bias, init, self.dtype, name=name)

        if self.joint:
            both = project((2, self.hidden_size), self.kernel_init, "expand_and_gate")(x)
            expanded, gate = both[..., 0, :], both[..., 1, :]
        else:
            gate = project((self.hidden_size,), self.kernel_init, "gate")(x)
            expanded = project((self.hidden_size,), self.kernel_init, "expand")(x)
        hidden = self.activation(gate) * expanded
        return project((x.shape[-1],), self.output_init, "output")(hidden)
