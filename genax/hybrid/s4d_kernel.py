"""The diagonal state space of S4D: its kernel, its convolution, and its state."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Complex, Float


class Modes(NamedTuple):
    """The modes of each channel after discretisation: Gu et al. 2022 (arXiv:2206.11893), table 1.

    state[k] = exp(rate) state[k - 1] + u[k] for each mode, and y[k] = 2 Re(sum over modes of
    gain state[k]). Each mode stands for itself and its conjugate, which together are real.

    rate: dt A.
    gain: C (exp(dt A) - 1) / A, the output's weight with zero-order hold, for B = 1.
    """

    rate: Complex[Array, "d n"]
    gain: Complex[Array, "d n"]


def discretise(
    log_dt: Float[Array, " d"],
    log_A_real: Float[Array, "d n"],
    A_imag: Float[Array, "d n"],
    C: Float[Array, "d n 2"],
) -> Modes:
    """Return the modes of A = -exp(log_A_real) + i A_imag with steps exp(log_dt).

    C: real and imaginary parts of the output's weights.
    """
    A = lax.complex(-jnp.exp(log_A_real), A_imag)
    rate = A * jnp.exp(log_dt)[:, None]
    # exp(rate) - 1 would lose four digits for the smallest steps.
    return Modes(rate, lax.complex(C[..., 0], C[..., 1]) * jnp.expm1(rate) / A)


def kernel_of(modes: Modes, length: int) -> Float[Array, "d t"]:
    """Return K[k] = 2 Re(sum over modes of gain exp(rate k)) for k < length: section 3.3.

    With k = r m + j for a block of m numbers, exp(rate k) is a product of two factors. So sqrt(t)
    exponentials a mode are enough, and the sum over modes is a product of matrices, whose memory
    does not grow with the number of modes.
    """
    block = _block(length)
    inner = modes.gain[..., None] * _powers(modes, jnp.arange(block))
    outer = _powers(modes, block * jnp.arange(-(-length // block)))
    kernel = 2 * _real_product("dnr,dnj->drj", outer, inner)
    return kernel.reshape(len(kernel), -1)[:, :length]


def convolve(u: Float[Array, "b t d"], kernel: Float[Array, "d t"]) -> Float[Array, "b t d"]:
    """Return y[k] = sum over j <= k of kernel[k - j] u[j], by Fourier transforms of length 2 t."""
    length = u.shape[1]
    if length == 1:
        return u * kernel[:, 0]
    product = jnp.fft.rfft(u, 2 * length, axis=1) * jnp.fft.rfft(kernel.T, 2 * length, axis=0)
    return jnp.fft.irfft(product, 2 * length, axis=1)[:, :length]


def response(modes: Modes, state: Complex[Array, "b d n"], length: int) -> Float[Array, "b t d"]:
    """Return what a state adds to the outputs of the next `length` inputs.

    y[k] = 2 Re(sum over modes of gain exp(rate (k + 1)) state).
    """
    block = _block(length)
    starts = state[..., None] * _powers(modes, block * jnp.arange(-(-length // block)))
    inner = modes.gain[..., None] * _powers(modes, 1 + jnp.arange(block))
    found = 2 * _real_product("bdnr,dnj->brjd", starts, inner)
    return found.reshape(len(found), -1, found.shape[-1])[:, :length]


def state_after(
    modes: Modes,
    state: Complex[Array, "b d n"],
    u: Float[Array, "b t d"],
    real: Bool[Array, "b t"] | None = None,
) -> Complex[Array, "b d n"]:
    """Return the state after some inputs: exp(rate t) state + sum_j exp(rate (t - 1 - j)) u[j].

    state: before them.
    real: which inputs are real, before all others; t is then their number in each sequence. None
      means all.
    """
    length, block = u.shape[1], _block(u.shape[1])
    rows, count = -(-length // block), jnp.float32(length)
    if real is not None:
        count = real.sum(1, dtype=jnp.int32)
        # The last real input comes last, and zeros before the first one.
        places = (jnp.arange(length) + count[:, None]) % length
        u = jnp.take_along_axis(jnp.where(real[..., None], u, 0), places[..., None], axis=1)
        count = count[:, None, None]
    u = jnp.pad(u, ((0, 0), (rows * block - length, 0), (0, 0)))
    u = u.reshape(len(u), rows, block, -1)
    powers = _powers(modes, jnp.arange(block)[::-1])
    sums = lax.complex(*(_product("brjd,dnj->brdn", u, x) for x in (powers.real, powers.imag)))
    sums = sums * jnp.moveaxis(_powers(modes, block * jnp.arange(rows)[::-1]), -1, 0)
    return sums.sum(1) + jnp.exp(modes.rate * count) * state


def _block(length: int) -> int:
    return max(1, math.isqrt(length - 1) + 1)


def _powers(modes: Modes, exponents: Array) -> Complex[Array, "d n m"]:
    return jnp.exp(modes.rate[..., None] * exponents.astype(jnp.float32))


def _real_product(axes: str, a: Array, b: Array) -> Array:
    """The real part of an einsum of complex arrays, which XLA has no fast product for on a CPU."""
    return _product(axes, a.real, b.real) - _product(axes, a.imag, b.imag)


def _product(axes: str, a: Array, b: Array) -> Array:
    # A TPU's default product has 8 bits.
    return jnp.einsum(axes, a, b, precision=lax.Precision.HIGHEST)
