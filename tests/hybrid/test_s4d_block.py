"""S4D's layer against numpy in float64: as a convolution, a recurrence, and with padding."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import tree
from genax.hybrid.optimizers import at_most
from genax.hybrid.s4d_block import S4DMixer
from tests.hybrid.test_s4d_kernel import recurrence

LAYER = S4DMixer(state_size=8)
X = np.random.default_rng(1).normal(size=(2, 12, 4)).astype(np.float32)
START = LAYER.empty(2, 4)
VARIABLES = jax.jit(LAYER.init)(jax.random.key(0), X)


@jax.jit
def call(x, before=None, real=None):
    return LAYER.apply(VARIABLES, x, before, real)


def layer_in_numpy(x):
    params = jax.tree.map(np.asarray, VARIABLES["params"])
    system = [params[name] for name in ("log_dt", "log_A_real", "A_imag", "C")]
    y = recurrence(system, x)[0] + x * params["D"]
    y = y * (1 + np.vectorize(math.erf)(y / math.sqrt(2))) / 2
    kernel, bias = (params["output"][name] for name in ("kernel", "bias"))
    value, gate = np.moveaxis(np.einsum("btd,dke->btke", y, kernel) + bias, 2, 0)
    return value / (1 + np.exp(-gate))


def test_the_layer_is_the_papers():
    np.testing.assert_allclose(call(X)[0], layer_in_numpy(X), atol=1e-5)


def test_steps_are_the_convolution():
    """One input at a time, and in parts of any length, from an empty state."""
    wanted, (y, state) = call(X)[0], call(X[:, :7], START)
    found = [y]
    for place in range(7, 12):
        y, state = call(X[:, place : place + 1], state)
        found.append(y)
    np.testing.assert_allclose(np.concatenate(found, 1), wanted, atol=1e-5)


def test_padding_is_not_there():
    """Sequences of several lengths have the state of their own last token, whatever follows it."""
    lengths, rest = np.array([3, 12]), X[:, :5]
    real = np.arange(12) < lengths[:, None]
    found, after = call(np.where(real[..., None], X, 7.0), call(rest, START)[1], real)
    for row, length in enumerate(lengths):
        whole = np.concatenate([rest, X[:, :length]], axis=1)
        wanted, last = call(whole, START)
        np.testing.assert_allclose(found[row, :length], wanted[row, 5:], atol=1e-5)
        np.testing.assert_allclose(after.state[row], last.state[row], atol=1e-5)


def test_initial_weights():
    drawn = jax.jit(S4DMixer().init)(jax.random.key(0), np.zeros((1, 1, 256)))
    params = jax.tree.map(np.asarray, drawn["params"])
    assert {name: x.shape for name, x in params.items() if name != "output"} == {
        "log_dt": (256,),
        "log_A_real": (256, 32),
        "A_imag": (256, 32),
        "C": (256, 32, 2),
        "D": (256,),
    }
    np.testing.assert_allclose(np.exp(params["log_A_real"]), 0.5, rtol=1e-6)
    np.testing.assert_allclose(params["A_imag"][3], np.pi * np.arange(32), rtol=1e-6)
    steps = np.exp(params["log_dt"])
    assert 1e-3 <= steps.min() < 1.2e-3
    assert 0.08 < steps.max() <= 0.1
    assert np.median(steps) == pytest.approx(1e-2, rel=0.3)
    assert (params["C"] ** 2).sum(-1).mean() == pytest.approx(1, rel=0.05)
    assert params["D"].std() == pytest.approx(1, rel=0.2)


def test_forward_mode_agrees_with_reverse_mode():
    def loss(params):
        y, state = LAYER.apply({"params": params}, jnp.asarray(X), START)
        return (y**2).sum() + (state.state**2).sum()

    params = VARIABLES["params"]
    direction = jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size)).reshape(x.shape), params)
    slope = jax.jit(lambda: jax.jvp(loss, (params,), (direction,))[1])()
    gradient = jax.jit(jax.grad(loss))(params)
    parts = jax.tree.map(lambda a, b: (a * b).sum(), gradient, direction)
    assert float(slope) == pytest.approx(float(sum(jax.tree.leaves(parts))), rel=1e-4)


def test_the_state_space_has_a_rate_of_its_own():
    """The authors' rule: at most 1e-3, in the form of the schedule, and never decayed."""
    params = tree.flatten({"blocks_0": VARIABLES["params"], "norm": {"scale": jnp.ones(2)}})
    schedule = optax.cosine_decay_schedule(1e-2, 10)
    optimizer = at_most(optax.sgd(schedule), 1e-2)
    state = optimizer.init(params)
    slopes = jax.tree.map(jnp.ones_like, params)
    for step in range(3):
        updates, state = optimizer.update(slopes, state, params)
        for path, update in updates.items():
            slow = path.rsplit("/")[-1] in ("log_dt", "log_A_real", "A_imag")
            rate = float(schedule(step)) * (0.1 if slow else 1)
            np.testing.assert_allclose(update, -rate, rtol=1e-5)
    assert len(updates) == 8
    gentle = optax.sgd(1e-3)
    assert at_most(gentle, 1e-3) is gentle
