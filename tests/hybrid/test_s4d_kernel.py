"""S4D's kernel, convolution and state against numpy in float64."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.hybrid.s4d_kernel import convolve, discretise, kernel_of, response, state_after

CHANNELS, MODES = 6, 32
RNG = np.random.default_rng(0)
# S4D-Lin, with the smallest and the largest step among those of the channels.
PARAMETERS = (
    np.log(np.geomspace(1e-3, 1e-1, CHANNELS)).astype(np.float32),
    np.full((CHANNELS, MODES), np.log(0.5), np.float32),
    np.tile(np.pi * np.arange(MODES, dtype=np.float32), (CHANNELS, 1)),
    RNG.normal(0, np.sqrt(0.5), (CHANNELS, MODES, 2)).astype(np.float32),
)
START = jnp.zeros((2, CHANNELS, MODES), jnp.complex64)
KERNEL = jax.jit(lambda length, *p: kernel_of(discretise(*p), length), static_argnums=0)


def exact(parameters):
    """Rate and gain in complex128, by the textbook's formulas."""
    log_dt, log_A_real, A_imag, C = (x.astype(np.float64) for x in parameters)
    A = -np.exp(log_A_real) + 1j * A_imag
    rate = np.exp(log_dt)[:, None] * A
    return rate, (C[..., 0] + 1j * C[..., 1]) * (np.exp(rate) - 1) / A


def exact_kernel(parameters, length):
    rate, gain = exact(parameters)
    return np.stack([2 * (gain * np.exp(rate * k)).sum(-1).real for k in range(length)], axis=-1)


def recurrence(parameters, u):
    """The outputs and the last state, one input after the other."""
    rate, gain = exact(parameters)
    state, found = np.zeros((len(u), *rate.shape), np.complex128), []
    for k in range(u.shape[1]):
        state = np.exp(rate) * state + u[:, k, :, None]
        found.append(2 * (gain * state).sum(-1).real)
    return np.stack(found, axis=1), state


@pytest.mark.parametrize("length", [1, 2, 7, 256, 1_000])
def test_kernel_is_the_vandermonde_sum(length):
    wanted = exact_kernel(PARAMETERS, length)
    np.testing.assert_allclose(KERNEL(length, *PARAMETERS), wanted, atol=1e-5)


def test_gradient_of_the_kernel():
    """Gradients of sum(w K) are differences of the exact kernel."""
    length = 64
    weights = RNG.normal(size=(CHANNELS, length))
    found = jax.jit(
        jax.grad(lambda p: (weights.astype(np.float32) * kernel_of(discretise(*p), length)).sum())
    )(PARAMETERS)
    for number, gradient in enumerate(found):
        for place in [0, gradient.size // 2, gradient.size - 1]:
            index = np.unravel_index(place, gradient.shape)
            ends = []
            for step in (1e-5, -1e-5):
                moved = [x.astype(np.float64) for x in PARAMETERS]
                moved[number][index] += step
                ends.append((weights * exact_kernel(moved, length)).sum())
            wanted = (ends[0] - ends[1]) / 2e-5
            assert gradient[index] == pytest.approx(wanted, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("length", [1, 5, 48])
def test_convolution_is_the_sum_over_the_past(length):
    u = RNG.normal(size=(2, length, 3)).astype(np.float32)
    kernel = RNG.normal(size=(3, length)).astype(np.float32)
    wanted = np.zeros(u.shape)
    for k in range(length):
        for j in range(k + 1):
            wanted[:, k] += kernel[:, k - j] * u[:, j]
    np.testing.assert_allclose(jax.jit(convolve)(u, kernel), wanted, atol=1e-5)


@pytest.mark.parametrize("cut", [1, 30])
def test_two_parts_are_the_whole(cut):
    """The state carries all that the second part needs, whatever the lengths."""
    u = RNG.normal(size=(2, 100, CHANNELS)).astype(np.float32)
    wanted, last = recurrence(PARAMETERS, u)

    @jax.jit
    def in_parts(u):
        modes, rest = discretise(*map(jnp.asarray, PARAMETERS)), u[:, cut:]
        state = state_after(modes, START, u[:, :cut])
        found = convolve(rest, kernel_of(modes, 100 - cut)) + response(modes, state, 100 - cut)
        return found, state_after(modes, state, rest)

    found, state = in_parts(u)
    np.testing.assert_allclose(found, wanted[:, cut:], atol=2e-5)
    np.testing.assert_allclose(state, last, rtol=1e-4, atol=1e-4)


def test_memory_of_the_kernel_does_not_hold_all_modes():
    """One number for each mode and position would take 32 times the kernel."""
    length = 4_096
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in PARAMETERS]
    program = jax.jit(partial(KERNEL.__wrapped__, length)).lower(*shapes).compile()
    kernel = 4 * CHANNELS * length
    assert program.memory_analysis().temp_size_in_bytes < 8 * kernel
