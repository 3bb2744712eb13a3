"""Activations by the names that settings and a config.json have for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax

from genax.nn.gelu import gelu, gelu_tanh

# The first name of a function is the one that is written.
ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": nn.relu,
    "silu": nn.silu,
    "swish": nn.silu,
    "tanh": nn.tanh,
}
