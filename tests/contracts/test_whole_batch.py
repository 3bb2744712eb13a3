"""A loss of the whole batch is one loss: of any layout, of any number of microbatches."""

from __future__ import annotations

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import (
    GenaxError,
    Loss,
    Phase,
    Stage,
    Task,
    batch_axis,
    gather,
    init_state,
    make_step,
    per_example,
    read,
    tree,
    write,
)
from genax.core.step import make_steps
from genax.running.flops import step_flops
from tests.contracts import clip, harness
from tests.contracts.rows import BATCH_SIZE, BY_NAME

STEPS = 3
LAYOUTS = ("jit", "sharded", "pmap")
MICROBATCHES = (1, 2, 4)
ROW = BY_NAME["clip"]


def run(task: Task, layout: str, accumulate: int, start=None, steps: int = STEPS):
    """The state after some steps and their metrics, on the host."""
    strategy = harness.LAYOUTS[layout].strategy(task)
    start = init_state(task, harness.SEED, ROW.element) if start is None else start
    advance = strategy.compile(make_step(task, 0, accumulate), start, stacked=False)
    state, measured = harness.placed(harness.on_host(start), strategy), []
    with harness.fresh_compilation():
        for step in range(steps):
            state, metrics = advance(state, strategy.put(ROW.batch_at(step), stacked=False))
            measured.append(harness.on_host(metrics))
    return harness.on_host(state), measured


def plain(task: Task) -> Task:
    """The task with rows and loss made in one function, right if it sees the whole batch."""

    def loss(nets, batch):
        return clip.contrast(nets, batch, clip.embed(nets, batch))

    ((phase,),) = (stage.phases for stage in task.stages)
    return replace(task, stages=[Stage([replace(phase, loss=loss, embed=None)])])


@pytest.fixture(scope="module")
def reference():
    return run(plain(clip.make()), "jit", 1)


@pytest.mark.parametrize("accumulate", MICROBATCHES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_parameters_are_those_of_the_plain_step(layout, accumulate, reference):
    state, measured = run(clip.make(), layout, accumulate)
    expected = tree.flatten(reference[0].params)
    for path, leaf in tree.flatten(state.params).items():
        np.testing.assert_allclose(leaf, expected[path], 0, 1e-6, err_msg=path)
    for old, new in zip(reference[1], measured, strict=True):
        assert old.keys() == new.keys()
        for name in old:
            np.testing.assert_allclose(new[name], old[name], 1e-5, err_msg=name)


def test_the_plain_loss_of_microbatches_is_another(reference):
    """What the tests above would find if rows of the rest of the batch were missing."""
    _, measured = run(plain(clip.make()), "jit", 2)
    assert measured[0]["contrast/loss"] < reference[1][0]["contrast/loss"] - 0.1


def test_several_steps_in_one_call_of_microbatches(reference):
    task = clip.make()
    batches = [ROW.batch_at(step) for step in range(STEPS)]
    stacked = {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
    start = init_state(task, harness.SEED, ROW.element)
    with harness.fresh_compilation():
        state, _ = jax.jit(make_steps(make_step(task, 0, 2)))(start, stacked)
    expected = tree.flatten(reference[0].params)
    for path, leaf in tree.flatten(state.params).items():
        np.testing.assert_allclose(leaf, expected[path], 0, 1e-6, err_msg=path)


class Noted(nn.Module):
    """A tower with BatchNorm and dropout."""

    @nn.compact
    def __call__(self, x, axis):
        x = nn.BatchNorm(use_running_average=False, axis_name=axis)(x.reshape(len(x), -1))
        return nn.Dense(4)(nn.Dropout(0.5, deterministic=False)(x))


class Networks(nn.Module):
    tower: nn.Module


def noted(nets, batch, name):
    """Noise of each element, left in the state where `name` says."""
    noise = per_example(jax.random.normal, nets, batch, ())
    seen = read(nets, "seen", name, lambda: jnp.zeros(BATCH_SIZE))
    write(nets, "seen", name, seen.at[batch["index"]].set(noise))
    return noise


def noisy_rows(nets, batch):
    noise = noted(nets, batch, "embed")
    return nets.tower(batch["image"], batch_axis()) + noise[:, None]


def noisy_contrast(nets, batch, rows):
    noted(nets, batch, "loss")
    # Both are the whole batch's, so that nothing is left to gather.
    assert len(rows) == len(batch["image"]) == len(gather(rows))
    assert batch_axis() is None
    return Loss(jnp.square(rows[:, None] - rows).mean(-1), aux={"rows": jnp.square(rows)})


def noisy_task(optimizer=None, embed=noisy_rows) -> Task:
    optimizer = optax.sgd(0.1) if optimizer is None else optimizer
    phase = Phase("contrast", noisy_contrast, ("tower",), optimizer, embed=embed)
    return Task(Networks(Noted()), [Stage([phase])], summed=("seen",))


@pytest.mark.parametrize(
    ("layout", "accumulate"),
    [
        ("jit", 2),
        pytest.param("sharded", 4, marks=pytest.mark.long),
        pytest.param("pmap", 2, marks=pytest.mark.long),
    ],
)
def test_noise_and_statistics(layout, accumulate):
    """Noise is an element's own and another one in the loss; running statistics are merged."""
    state, _ = run(noisy_task(), layout, accumulate, steps=1)
    start = init_state(noisy_task(), harness.SEED, ROW.element)
    seen = state.collections["seen"]
    expected = run(noisy_task(), "jit", 1, steps=1)[0].collections["seen"]
    for name in ("embed", "loss"):
        np.testing.assert_array_equal(seen[name], expected[name])
    assert len(np.unique([seen["embed"], seen["loss"]])) == 2 * BATCH_SIZE
    mean = ROW.batch_at(0)["image"].reshape(BATCH_SIZE, -1).mean(0)
    found = state.collections["batch_stats"]["tower"]["BatchNorm_0"]["mean"]
    old = start.collections["batch_stats"]["tower"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(found, 0.99 * old + 0.01 * mean, rtol=1e-5)


def test_both_passes_draw_the_same_dropout_masks():
    """The gradient by microbatches is the slope of the loss that those masks give."""
    task, size = noisy_task(optax.sgd(1.0)), 1e-2
    start = init_state(task, harness.SEED, ROW.element)
    state, measured = run(task, "jit", 2, start, steps=1)
    gradient = jax.tree.map(lambda old, new: np.asarray(old) - new, start.params, state.params)
    norm = float(optax.tree.norm(gradient))
    losses = []
    for sign in (1, -1):
        moved = jax.tree.map(lambda p, g: p + sign * size / norm * g, start.params, gradient)  # noqa: B023
        metrics = run(task, "jit", 2, start.replace(params=moved), steps=1)[1]
        losses.append(metrics[0]["contrast/loss"])
    np.testing.assert_allclose((losses[0] - losses[1]) / (2 * size), norm, rtol=1e-3)
    np.testing.assert_allclose(measured[0]["contrast/grad_norm"], norm, rtol=1e-5)


def test_flops_are_those_of_the_plain_step():
    shapes = jax.eval_shape(harness.initialiser(ROW))
    found, expected = (
        step_flops(task, 0, shapes, ROW.batch_at(0)) for task in (clip.make(), plain(clip.make()))
    )
    assert found == expected > 0


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (lambda nets, batch: noisy_rows(nets, batch).mean(0), r"float32\[4\]"),
        (lambda nets, batch: {"scale": noisy_rows(nets, batch).mean()}, r"float32\[\] as scale"),
        (lambda nets, batch: noisy_rows(nets, batch).astype(int), r"int32\[2, 4\]"),
    ],
    ids=["mean", "scalar", "integer"],
)
def test_rows_are_one_of_each_element(rows, found):
    with pytest.raises(
        GenaxError, match=f"embed of phase 'contrast' returned {found}.* 2 elements"
    ):
        jax.eval_shape(lambda: init_state(noisy_task(embed=rows), 0, ROW.element))
