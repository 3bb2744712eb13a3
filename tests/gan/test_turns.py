"""Schedules of the generator's moves, and phases that follow a schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import Phase, Stage, Task, init_state, make_step
from genax.gan.turns import after, wgan_turns
from genax.running.flops import step_flops
from genax.running.watch import Watch
from tests.core.toys import ELEMENT, SIZE, Line, Networks, noisy_error


def official(critic_steps, steps):
    """Critic steps after which WGAN's published loop moves the generator."""
    moved, taken, generator_iterations = [], 0, 0
    while taken < steps:
        long = generator_iterations < 25 or generator_iterations % 500 == 0
        taken += 100 if long else critic_steps
        moved.append(taken - 1)
        generator_iterations += 1
    return [step for step in moved if step < steps]


@pytest.mark.parametrize("critic_steps", [5, 7])
def test_wgan_moves_as_its_code_does(critic_steps):
    turns = wgan_turns(critic_steps)
    found = np.flatnonzero(turns(np.arange(12_000)))
    np.testing.assert_array_equal(found, official(critic_steps, 12_000))
    assert [step for step in range(300) if turns(step)] == [99, 199, 299]
    assert not jax.jit(turns)(jnp.int32(98))
    assert jax.jit(turns)(jnp.int32(99))


def test_after():
    assert after(1) == 1
    assert [step for step in range(10) if after(3)(step)] == [2, 5, 8]


def test_a_phase_moves_when_its_function_says(tmp_path):
    """The step, its log and a stage that begins later agree on who moves."""
    phases = [
        Phase("a", noisy_error, ("line",), optax.sgd(0.1)),
        Phase("b", noisy_error, ("line",), optax.sgd(0.1), every=after(3)),
    ]
    task = Task(Networks(Line()), [Stage(phases[:1], 2), Stage(phases)])
    watch = Watch(task, tmp_path, 1)
    for step in range(2, 9):
        moves = task.stages[1].phases[1].moves(step - 2)
        assert moves == (step in (4, 7))
        loss = np.float32(1.0 if moves else np.nan)
        metrics = {f"a/{m}": np.float32(0) for m in ("loss", "grad_norm")}
        metrics |= {f"b/{m}": loss for m in ("loss", "grad_norm")}
        metrics |= {f"{p}/{m}": np.bool_(True) for p in "ab" for m in ("finite", "counts")}
        watch.add(step, metrics, np.arange(2))
    watch.drain()
    assert watch.means(9)["b/loss"] == 1.0
    state = init_state(task, 0, ELEMENT, 1).replace(step=jnp.int32(2))
    step = jax.jit(make_step(task, 1))
    batch = {"x": jnp.ones((2, SIZE)), "y": jnp.ones(2)}
    found = []
    for _ in range(4):
        state, metrics = step(state, batch)
        assert metrics["b/finite"]
        found.append(bool(jnp.isfinite(metrics["b/loss"])))
    assert found == [False, False, True, False]
    # Its work counts for the share of steps on which it moves.
    batch |= {"index": jnp.arange(2)}
    both, alone = (step_flops(task, stage, state, batch) for stage in (1, 0))
    assert both / alone == pytest.approx(4 / 3, abs=1e-3)
