"""The selective scan against a loop in numpy, in float64; its memory; narrower types."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from genax.ahead.costs import costs
from genax.core.mesh import make_mesh
from genax.hybrid.selective_scan import selective_scan

b, d, n = 2, 3, 4


def draw(t):
    """x, time_step, A, B, C and the state before the first token."""
    rng = np.random.default_rng(t)
    normal = rng.standard_normal
    steps, A = rng.uniform(0.0, 1.0, (b, t, d)), -rng.uniform(0.5, 2.0, (d, n))
    return normal((b, t, d)), steps, A, normal((b, t, n)), normal((b, t, n)), normal((b, n, d))


def loop(x, time_step, A, B, C, state):
    """Token by token, state by state."""
    y = np.zeros_like(x)
    state = state.copy()
    for t in range(x.shape[1]):
        for row, channel, k in np.ndindex(b, d, n):
            step = time_step[row, t, channel]
            old = state[row, k, channel]
            new = np.exp(step * A[channel, k]) * old + step * B[row, t, k] * x[row, t, channel]
            state[row, k, channel] = new
            y[row, t, channel] += C[row, t, k] * new
    return y, state


def both_ways(total):
    """(args, along) -> gradients, the slope along a direction by forward mode, auxiliary values."""

    def function(args, along):
        slope = jax.jvp(lambda *args: total(*args)[0], args, tuple(along))[1]
        gradients, found = jax.grad(total, range(len(args)), has_aux=True)(*args)
        return gradients, slope, found

    return function


@pytest.mark.parametrize(("length", "chunk"), [(5, 64), (11, 4)])
def test_values_and_gradients_are_those_of_the_loop(length, chunk):
    """Also of lengths that no chunk divides; along a direction, by differences of the loop."""
    args, along = draw(length), draw(length + 100)
    along = [np.resize(move, arg.shape) for move, arg in zip(along, args, strict=True)]
    weights = np.random.default_rng(0).standard_normal((2, b, length, d))
    expected = loop(*args)

    def total(*args):
        y, state = selective_scan(*args, chunk=chunk)
        return (y * weights[0]).sum() + jnp.square(state).sum(), (y, state)

    def of_loop(shift):
        y, state = loop(*(arg + shift * move for arg, move in zip(args, along, strict=True)))
        return (y * weights[0]).sum() + np.square(state).sum()

    with jax.enable_x64(True):
        gradients, forward, found = jax.jit(both_ways(total))(args, along)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    slope = sum(np.vdot(g, move) for g, move in zip(gradients, along, strict=True))
    difference = (of_loop(1e-5) - of_loop(-1e-5)) / 2e-5
    np.testing.assert_allclose([slope, forward], difference, rtol=1e-7)


@pytest.mark.long
def test_a_state_is_handed_on():
    """Two parts of a sequence, the second after the state of the first, are the whole."""
    x, time_step, A, B, C, state = map(jnp.float32, draw(11))
    whole, end = selective_scan(x, time_step, A, B, C, state, chunk=4)
    first, state = selective_scan(x[:, :6], time_step[:, :6], A, B[:, :6], C[:, :6], state, chunk=4)
    second, last = selective_scan(x[:, 6:], time_step[:, 6:], A, B[:, 6:], C[:, 6:], state)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last, end, rtol=1e-5, atol=1e-6)


def test_narrow_inputs_have_a_float32_recurrence():
    args = tuple(map(jnp.bfloat16, draw(5)))
    found = jax.eval_shape(selective_scan, *args)
    assert {part.dtype for part in found} == {jnp.dtype("float32")}
    y, _ = selective_scan(*args)
    expected, _ = selective_scan(*(arg.astype(jnp.float32) for arg in args))
    np.testing.assert_array_equal(y, expected)


def naive(x, time_step, A, B, C):
    """All states at once, by JAX's associative scan."""
    decay = jnp.exp(time_step[..., None] * A)
    written = (time_step * x)[..., None] * B[:, :, None]

    def join(first, second):
        return first[0] * second[0], second[0] * first[1] + second[1]

    states = lax.associative_scan(join, (decay, written), axis=1)[1]
    return jnp.einsum("btdn,btn->btd", states, C)


@pytest.mark.long
def test_a_fifth_of_the_memory_of_all_states():
    """Temporaries of forward and backward pass at length 8,192, by XLA's plan."""
    wide, narrow = (jax.ShapeDtypeStruct((1, 8192, size), jnp.float32) for size in (64, 16))
    A = jax.ShapeDtypeStruct((64, 16), jnp.float32)

    def temporaries(scan):
        step = jax.jit(jax.grad(lambda *args: jnp.square(scan(*args)).sum(), range(5)))
        compiled = step.lower(wide, wide, A, narrow, narrow).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    ours, theirs = temporaries(lambda *args: selective_scan(*args)[0]), temporaries(naive)
    assert theirs > 3 * 8192 * 64 * 16 * 4
    assert ours < theirs / 5


def test_no_token_is_a_message_between_devices():
    """A, which "fsdp" splits as a parameter, and its gradient are sent for each chunk at most."""
    mesh = make_mesh("fsdp=2", jax.devices()[:2])
    shapes, batch = [(2, 128, 4)] * 2 + [(4, 3)] + [(2, 128, 3)] * 2, PartitionSpec("fsdp")
    arguments = [
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, batch))
        for shape in shapes
    ]

    def loss(*arrays):
        return jnp.square(selective_scan(*arrays)[0]).sum()

    with jax.set_mesh(mesh):
        text = jax.jit(jax.grad(loss, range(5))).lower(*arguments).compile().as_text()
    assert 0 < sum(times for times, _ in costs(text).collectives.values()) < 10
