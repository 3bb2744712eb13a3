"""The Gaussian error linear unit, exact and in its tanh form."""

from __future__ import annotations

import math

import jax
from jaxtyping import Array, Float

from genax.nn.derivatives import set_reverse_rule

_SLOPE = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Gaussian error linear unit: x P(X <= x) for a standard normal X.

    Hendrycks & Gimpel 2016, section 2.
    """
    return jax.nn.gelu(x, approximate=False)


@jax.custom_jvp
def gelu_tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Tanh form of `gelu`: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).

    Hendrycks & Gimpel 2016, section 2. It is computed as the same function x sigmoid(2 sqrt(2 / pi)
    (x + 0.044715 x^3)).
    """
    return x * _gate(x)


def _gate(x):
    return jax.nn.sigmoid(_SLOPE * x * (1 + _CUBIC * x * x))


def _forward(x):
    return gelu_tanh(x), x


def _backward(x, gradient):
    # The hand-written rule keeps x alone: recomputing the gate is cheaper than reading it back.
    gate = _gate(x)
    slope = _SLOPE * (1 + 3 * _CUBIC * x * x)
    return (gradient * (gate + x * gate * (1 - gate) * slope),)


set_reverse_rule(gelu_tanh, _forward, _backward)
