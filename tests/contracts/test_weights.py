"""What does not count changes nothing, on any layout; where nothing counts, the run has no loss."""

from __future__ import annotations

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import Loss, Phase, Stage, Task, init_state, make_step, per_example, tree
from genax.core.gradients import keys_of
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
    output, weight = nets.regressor(batch["x"] + 0.1 * noise), batch["weight"]
    error = Loss(jnp.square(output - batch["x"]), weight[:, None], aux={"counted": weight})
    # A second term, which other elements count for.
    size = Loss(jnp.square(output).mean(-1), weight * (batch["index"] % 3 == 0))
    return {"error": error, "size": size}


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
    for name in ("loss", "error", "size"):
        np.testing.assert_allclose(
            metrics[f"regressor/{name}"], measured[f"regressor/{name}"], 1e-5
        )
    np.testing.assert_allclose(metrics["regressor/error/counted"], COUNTED / SIZE)


def test_terms_are_averaged_each_by_its_own_weights(unpadded):
    _, metrics = unpadded
    error, size = metrics["regressor/error"], metrics["regressor/size"]
    np.testing.assert_allclose(metrics["regressor/loss"], error + size, 1e-6)


def test_gradient_is_that_of_the_sum_of_means():
    start, batch = initial(), padded(0.0)
    task = replace(
        TASK,
        stages=[Stage([Phase("regressor", loss, ("regressor",), optax.sgd(1.0))])],
    )
    start = start.replace(opt_state={"regressor": task.stages[0].phases[0].optimizer.init({})})
    state, _ = make_step(task)(start, batch)

    def whole(params):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(start.rng), 0), 0)
        rows = dict(batch, index=jnp.arange(SIZE), step=0)
        terms = nn.apply(loss, TASK.networks)({"params": params}, rows, rngs=keys_of(TASK, key, 0))
        means = [
            (term.values * weights).sum() / weights.sum()
            for term in terms.values()
            for weights in [jnp.broadcast_to(term.weights, term.values.shape)]
        ]
        return sum(means)

    expected = jax.tree.map(lambda p, g: p - g, start.params, jax.grad(whole)(start.params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), state.params, expected)


def test_nothing_counts(advance):
    batch = padded(1.0)
    _, metrics = advance({**batch, "weight": np.zeros(SIZE, np.float32)})
    assert not np.isfinite(metrics["regressor/loss"])
    assert not metrics["regressor/finite"]
    assert not metrics["regressor/counts"]


def test_a_term_for_which_nothing_counts(advance):
    batch = padded(1.0)
    _, metrics = advance({**batch, "weight": (np.arange(SIZE) == 1).astype(np.float32)})
    assert np.isfinite(metrics["regressor/error"])
    assert not metrics["regressor/finite"]
    assert not metrics["regressor/counts"]
