"""The state space duality against a loop in numpy, in float64; what its exponentials survive."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.hybrid.state_space_dual import state_space_dual
from tests.hybrid.test_selective_scan import both_ways

b, h, p, n = 2, 4, 3, 5


def draw(t, groups=2):
    """x, time_step, A, B, C and the state before the first token."""
    rng = np.random.default_rng(t)
    normal = rng.standard_normal
    steps, A = rng.uniform(0.0, 1.0, (b, t, h)), -rng.uniform(0.5, 2.0, h)
    shared = (b, t, groups, n)
    return normal((b, t, h, p)), steps, A, normal(shared), normal(shared), normal((b, h, p, n))


def loop(x, time_step, A, B, C, state):
    """Token by token, head by head; head i is of group i * groups // h."""
    y, state = np.zeros_like(x), state.copy()
    groups = B.shape[2]
    for t in range(x.shape[1]):
        for row, head in np.ndindex(b, h):
            step, group = time_step[row, t, head], head * groups // h
            written = step * np.outer(x[row, t, head], B[row, t, group])
            state[row, head] = np.exp(step * A[head]) * state[row, head] + written
            y[row, t, head] = state[row, head] @ C[row, t, group]
    return y, state


@pytest.mark.parametrize(("length", "chunk", "groups"), [(5, 256, 1), (11, 4, 2)])
def test_values_and_gradients_are_those_of_the_loop(length, chunk, groups):
    """Also of lengths that no chunk divides; along a direction, by differences of the loop."""
    args, along = draw(length, groups), draw(length + 100, groups)
    along = [np.resize(move, arg.shape) for move, arg in zip(along, args, strict=True)]
    weights = np.random.default_rng(0).standard_normal((b, length, h, p))
    expected = loop(*args)

    def total(*args):
        y, state = state_space_dual(*args, chunk=chunk)
        return (y * weights).sum() + jnp.square(state).sum(), (y, state)

    def of_loop(shift):
        y, state = loop(*(arg + shift * move for arg, move in zip(args, along, strict=True)))
        return (y * weights).sum() + np.square(state).sum()

    with jax.enable_x64(True):
        gradients, forward, found = jax.jit(both_ways(total))(args, along)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    slope = sum(np.vdot(g, move) for g, move in zip(gradients, along, strict=True))
    difference = (of_loop(1e-5) - of_loop(-1e-5)) / 2e-5
    np.testing.assert_allclose([slope, forward], difference, rtol=1e-7)


def test_a_fast_decay_is_no_infinity():
    """The exponents above the diagonal are far beyond what float32 holds."""
    x, time_step, A, B, C, _ = map(jnp.float32, draw(64))
    run = jax.jit(jax.value_and_grad(lambda x, A: state_space_dual(x, time_step, A, B, C)[0].sum()))
    y, gradient = run(x, 300 * A)
    assert jnp.isfinite(y)
    assert jnp.isfinite(gradient).all()


def test_narrow_inputs_have_a_float32_state():
    args = tuple(map(jnp.bfloat16, draw(9)))
    run = jax.jit(lambda *args: state_space_dual(*args, chunk=4))
    y, state = run(*args)
    assert y.dtype == state.dtype == jnp.float32
    wide = run(*(arg.astype(jnp.float32) for arg in args))
    np.testing.assert_allclose(y, wide[0], atol=0.05 * float(jnp.abs(wide[0]).max()))
