"""Every loss has a forward derivative, and a forward derivative has one in reverse."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import DenyList

from genax.core import tree
from genax.core.gradients import keys_of, parts_of, rows_of, sums_of
from genax.core.nets import linen_variables
from tests.contracts import harness
from tests.contracts.rows import BY_NAME, ROWS

# Takes parameters away from zero, where many layers begin and where half of a gradient vanishes.
NOISE = 0.02
# Half the distance of the two losses whose difference is taken, one after another until one agrees.
# Nearer ones are rough in float32; between farther ones the loss curves and has kinks.
STEPS = (3e-3, 1e-3, 1e-4)


def losses_of(row):
    """Yield the loss of each phase, as a function of the parameters it trains, and these."""
    task, state = harness.task_of(row.name), harness.initial(row.name)
    state, rng = jax.tree.map(jnp.asarray, state), np.random.default_rng(0)
    params = {
        path: jnp.asarray(x + NOISE * rng.normal(size=x.shape), x.dtype)
        for path, x in tree.flatten(state.params).items()
    }
    for number, stage in enumerate(task.stages):
        batch = {name: jnp.asarray(x) for name, x in row.batch_at(task.start_of(number)).items()}
        batch |= {"step": jnp.int32(0), "index": jnp.arange(len(next(iter(batch.values()))))}
        for phase in stage.phases:

            def measure(nets, batch, phase=phase):
                return phase.loss(nets, batch, *rows_of(phase, nets, batch))

            apply = nn.apply(measure, task.networks, mutable=DenyList("params"))

            def loss_of(trained, apply=apply, batch=batch):
                values = tree.unflatten(params | trained, state.params)
                values = linen_variables(values, state.collections, state.fixed)
                keys = keys_of(task, jax.random.key(0), 0)
                loss = apply(values, batch, rngs=keys)[0]
                sums = sums_of(loss)
                return sum(sums[part].total / sums[part].weight for part in parts_of(loss))

            yield loss_of, {path: params[path] for path in tree.select(state.params, phase.trains)}


def inner(left, right):
    return sum(np.vdot(x, right[path]) for path, x in left.items())


def moved(params, direction, step):
    return {path: x + np.float32(step) * direction[path] for path, x in params.items()}


def direction_near(gradient):
    """A random direction that the gradient has a part in, so that rounding does not hide the slope.

    Both parts have length 1.
    """
    rng = np.random.default_rng(1)
    noise = {path: rng.normal(size=x.shape) for path, x in gradient.items()}
    lengths = [np.sqrt(inner(part, part)) for part in (gradient, noise)]
    return {
        path: (x / lengths[0] + noise[path] / lengths[1]).astype(x.dtype)
        for path, x in gradient.items()
    }


def forward_of(function):
    """The function and its slope along a direction."""
    return jax.jit(lambda params, direction: jax.jvp(function, (params,), (direction,)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_forward_mode_agrees_with_differences_and_with_reverse_mode(row):
    for loss_of, params in losses_of(row):
        with harness.quick_compilation():
            gradient = harness.on_host(jax.jit(jax.grad(loss_of))(params))
            direction, forward = direction_near(gradient), forward_of(loss_of)
            value, slope = map(float, forward(params, direction))
        assert slope == pytest.approx(inner(gradient, direction), rel=1e-4)
        if "differences" in row.exceptions:
            continue
        # A small slope is known less well, as activations have kinks between the two points.
        near = pytest.approx(slope, rel=1e-2, abs=1e-3 * abs(value))
        found = []
        for step in STEPS:
            ends = (moved(params, direction, one) for one in (step, -step))
            ahead, behind = (float(forward(end, direction)[0]) for end in ends)
            found.append((ahead - behind) / (2 * step))
            if found[-1] == near:
                break
        assert found[-1] == near, found


@pytest.mark.long
@pytest.mark.parametrize("name", ["experiments/transformer/llama.py", "experiments/gan/dcgan.py"])
def test_the_gradient_of_a_forward_derivative(name):
    """d/dp <g(p), v> along w is v H w, which has the same value the other way round."""
    loss_of, params = next(losses_of(BY_NAME[name]))
    rng = np.random.default_rng(2)
    with harness.quick_compilation():
        gradient = harness.on_host(jax.jit(jax.grad(loss_of))(params))
        direction = direction_near(gradient)
        other = {path: rng.normal(size=x.shape).astype(x.dtype) for path, x in params.items()}

        def slope(params):
            return jax.jvp(loss_of, (params,), (direction,))[1]

        reverse_of_forward = harness.on_host(jax.jit(jax.grad(slope))(params))
        forward_of_reverse = harness.on_host(forward_of(jax.grad(loss_of))(params, other)[1])
    assert inner(reverse_of_forward, other) == pytest.approx(
        inner(forward_of_reverse, direction), rel=1e-3
    )
