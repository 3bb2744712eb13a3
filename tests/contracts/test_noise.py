"""Noise belongs to an element of the global batch: the same on any layout, shared by no two."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import Loss, Phase, Stage, Task, init_state, make_step, per_example, read, write
from tests.contracts import harness

SIZE, DRAWN = 16, 3
ELEMENT = {"x": jax.ShapeDtypeStruct((), jnp.float32)}


class Networks(nn.Module):
    scale: nn.Module


def recorded(name):
    """A loss that leaves the noise of each element in the state: two draws, one after the other."""

    def loss(nets, batch):
        noise = [per_example(jax.random.normal, nets, batch, (DRAWN,)) for _ in range(2)]
        noise = jnp.stack(noise, axis=1)
        seen = read(nets, "seen", name, lambda: jnp.zeros((SIZE, 2, DRAWN)))
        write(nets, "seen", name, seen.at[batch["index"]].set(noise))
        return Loss(nets.scale(batch["x"][:, None])[:, 0] * noise.mean((1, 2)))

    return loss


TASK = Task(
    Networks(nn.Dense(1)),
    [Stage([Phase(n, recorded(n), ("scale",), optax.sgd(1.0)) for n in ("first", "second")])],
    summed=("seen",),
)


def noise_on(layout, step=0, seed=0):
    """[phase, element, draw, value]."""
    how = harness.LAYOUTS[layout]
    strategy = how.strategy(TASK)
    start = harness.on_host(init_state(TASK, seed, ELEMENT)).replace(step=np.int32(step))
    advance = strategy.compile(make_step(TASK, 0, how.accumulate), start, stacked=False)
    batch = strategy.put({"x": np.ones(SIZE, np.float32)}, stacked=False)
    state, _ = advance(harness.placed(start, strategy), batch)
    return np.stack([state.collections["seen"][name] for name in ("first", "second")])


@pytest.fixture(scope="module")
def reference():
    return noise_on(harness.REFERENCE)


@pytest.mark.parametrize("layout", harness.LAYOUTS)
def test_noise_is_the_same_on_any_layout(layout, reference):
    np.testing.assert_array_equal(noise_on(layout), reference)


def test_nothing_shares_noise(reference):
    """Not two elements, nor draws, nor phases, nor steps, nor seeds."""
    values = np.concatenate(
        [reference.ravel(), noise_on("jit", step=1).ravel(), noise_on("jit", seed=1).ravel()]
    )
    assert len(np.unique(values)) == values.size
