"""What does not count changes nothing, on any layout; where nothing counts, the run has no loss."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import Loss, Phase, Stage, Task, init_state, make_step, per_example, tree
from tests.contracts import harness
from tests.contracts.layers import MLP

SIZE, COUNTED = 16, 10  # in parts of 4 the last part is padding alone
ELEMENT = {
    "x": jax.ShapeDtypeStruct((4,), jnp.float32),
    "weight": jax.ShapeDtypeStruct((), jnp.float32),
}


class Networks(nn.Module):
    regressor: nn.Module


def loss(nets, batch):
    noise = per_example(jax.random.normal, nets, batch, (4,))
    error = jnp.square(nets.regressor(batch["x"] + 0.1 * noise) - batch["x"])
    return Loss(error, batch["weight"][:, None], aux={"counted": batch["weight"]})


TASK = Task(
    Networks(MLP((4,))), [Stage([Phase("regressor", loss, ("regressor",), optax.adam(1e-2))])]
)


def initial():
    return init_state(TASK, 0, ELEMENT)


@pytest.fixture(scope="module", params=harness.LAYOUTS, ids=str)
def advance(request):
    """Three steps on the same batch, on each layout."""
    layout = harness.LAYOUTS[request.param]
    strategy = layout.strategy(TASK)
    start = harness.on_host(initial())
    step = strategy.compile(make_step(TASK, 0, layout.accumulate), start, stacked=False)

    def steps(batch):
        state = harness.placed(start, strategy)
        for _ in range(3):
            state, metrics = step(state, strategy.put(batch, stacked=False))
        return harness.on_host(state), harness.on_host(metrics)

    return steps


def padded(garbage: float, size: int = SIZE):
    x = np.random.default_rng(0).normal(size=(size, 4)).astype(np.float32)
    weight = (np.arange(size) < COUNTED).astype(np.float32)
    x[COUNTED:] = garbage * (1 + np.arange(max(0, size - COUNTED)))[:, None]
    return {"x": x, "weight": weight}


@pytest.fixture(scope="module")
def unpadded():
    """The run of the examples that count, alone."""
    state, step = initial(), jax.jit(make_step(TASK))
    for _ in range(3):
        state, metrics = step(state, padded(0.0, COUNTED))
    return harness.on_host(state), harness.on_host(metrics)


def test_padding_changes_nothing(advance):
    one, _ = advance(padded(0.0))
    other, _ = advance(padded(1e3))
    assert tree.digest(one) == tree.digest(other)


def test_padded_batch_is_the_batch_without_padding(advance, unpadded):
    (state, metrics), (expected, measured) = advance(padded(1.0)), unpadded
    for path, leaf in tree.flatten(expected.params).items():
        np.testing.assert_allclose(tree.flatten(state.params)[path], leaf, 1e-5, 1e-5, err_msg=path)
    np.testing.assert_allclose(metrics["regressor/loss"], measured["regressor/loss"], 1e-5)
    np.testing.assert_allclose(metrics["regressor/counted"], COUNTED / SIZE)


def test_nothing_counts(advance):
    batch = padded(1.0)
    _, metrics = advance({**batch, "weight": np.zeros(SIZE, np.float32)})
    assert not np.isfinite(metrics["regressor/loss"])
    assert not metrics["regressor/finite"]
