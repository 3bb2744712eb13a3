"""What a step may change, how it repeats, and that it compiles once."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise

import jax
import numpy as np
import pytest

from genax.core import Stage, make_step, tree
from genax.core.devices import abstract
from genax.core.step import make_steps
from genax.running import fixed
from genax.running.checkpoint import Checkpoints
from genax.running.policy import Keep
from tests.compilation import users_compilation
from tests.contracts import harness
from tests.contracts.rows import ROWS

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
GAMES = [
    pytest.param(row.name, number, phase.name, id=f"{row.name}-{number}-{phase.name}")
    for row in ROWS
    for number, stage in enumerate(harness.task_of(row.name).stages)
    for phase in stage.phases
    if len(stage.phases) > 1
]


def trained(params, phases) -> set[str]:
    """Paths of the parameters that some of these phases train."""
    return {path for phase in phases for path in tree.select(params, phase.trains)}


def changed(old, new) -> set[str]:
    """Paths whose bits differ."""
    old, new = tree.flatten(old), tree.flatten(new)
    return {path for path in old if old[path].tobytes() != new[path].tobytes()}


@each_row
def test_game_changes_what_it_trains_and_nothing_else(row):
    task, (states, _) = harness.task_of(row.name), harness.history(row.name)
    for step, (old, new) in enumerate(pairwise(states)):
        stage, _ = task.stage_at(step)
        assert changed(old.params, new.params) <= trained(old.params, task.stages[stage].phases)
        assert changed(old.fixed, new.fixed) == set()
    first = 0
    for stage in task.stages:
        last = len(states) - 1 if stage.steps is None else first + stage.steps
        moved = changed(states[first].params, states[last].params)
        expected = trained(states[0].params, stage.phases)
        assert moved <= expected if "moves" in row.exceptions else moved == expected
        first = last


@pytest.mark.parametrize(("name", "number", "phase"), GAMES)
def test_phase_alone_changes_only_what_it_trains(name, number, phase):
    row, task = harness.BY_NAME[name], harness.task_of(name)
    stage = task.stages[number]
    (only,) = (
        replace(one, every=1, optimizer=stage.mover(one).optimizer)
        for one in stage.phases
        if one.name == phase
    )
    state, first = harness.initial(name), sum(stage.steps for stage in task.stages[:number])
    state = state.replace(
        opt_state={phase: only.optimizer.init(tree.select(state.params, only.trains))}
    )
    step = jax.jit(make_step(replace(task, stages=(Stage((only,)),))))
    with harness.quick_compilation():
        new = harness.on_host(step(state, row.batch_at(first))[0])
    moved = changed(state.params, new.params)
    assert moved
    assert moved <= trained(state.params, (only,))


def several(name: str, layout: str, k: int):
    """State and metrics after k steps in one call."""
    row, task = harness.BY_NAME[name], harness.task_of(name)
    strategy = harness.compiled(name, layout).strategy
    steps = make_steps(make_step(task))
    with users_compilation() if layout == harness.REFERENCE else nullcontext():
        advance = strategy.compile(steps, harness.initial(name), stacked=True)
    batches = [row.batch_at(step) for step in range(k)]
    stacked = {key: np.stack([batch[key] for batch in batches]) for key in batches[0]}
    start = harness.placed(harness.initial(name), strategy)
    return harness.on_host(advance(start, strategy.put(stacked, stacked=True)))


@each_row
def test_several_steps_in_one_call_are_single_steps(row):
    """To the bit, or to 1e-6 where the table says why."""
    states, measured = harness.history(row.name)
    state, metrics = several(row.name, harness.REFERENCE, k=3)
    tolerance = 1e-6 if "steps_per_call" in row.exceptions else 0.0
    old, new = tree.flatten(states[3]), tree.flatten(state)
    for path in old:
        np.testing.assert_allclose(new[path], old[path], tolerance, tolerance, err_msg=path)
    for key, values in metrics.items():
        single = [measured[step][key] for step in range(3)]
        np.testing.assert_allclose(values, single, tolerance, tolerance, err_msg=key)


@pytest.mark.parametrize("layout", ["pmap", "sharded"])
def test_several_steps_in_one_call_on_several_devices(layout):
    expected = harness.history("denoiser")[0][3].params
    with harness.quick_compilation():
        state, _ = several("denoiser", layout, k=3)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, state.params, expected)


@each_row
def test_resumed_run_is_the_same_run(row, tmp_path):
    """N + M steps have the digest of N, a checkpoint, M; with several stages, in the last."""
    task, states = harness.task_of(row.name), harness.history(row.name)[0]
    stop = 4 if len(task.stages) > 1 else 2
    strategy, _ = harness.compiled(row.name, harness.REFERENCE)
    saving, state = Checkpoints(tmp_path, Keep(1)), harness.placed(states[stop], strategy)
    record = {"fixed": fixed.keep(state.fixed, tmp_path)} if state.fixed else {}
    saving.save(state, stop, {"run": record, "position": None})
    saving.close()

    checkpoints = Checkpoints(tmp_path, Keep(1))
    function = harness.initialiser(row, task.stage_at(stop)[0])
    restored = checkpoints.restore(stop, abstract(function, strategy))
    *_, (last, _) = harness.play(row.name, harness.REFERENCE, restored, stop, harness.STEPS)
    assert tree.digest(last) == tree.digest(states[harness.STEPS])

    elsewhere, _ = harness.compiled(row.name, "sharded")
    spread = checkpoints.restore(stop, abstract(function, elsewhere))
    assert tree.digest(spread) == tree.digest(states[stop])
    checkpoints.close()


@each_row
def test_step_compiles_once(row):
    task = harness.task_of(row.name)
    harness.history(row.name)
    for stage in range(len(task.stages)):
        assert harness.compiled(row.name, harness.REFERENCE, stage).step._cache_size() == 1


@pytest.mark.parametrize("layout", ["sharded", "pmap"])
def test_step_compiles_once_on_several_devices(layout):
    """Each compilation traces the step, so nothing is traced after the first call."""
    name, traced = "wgan_gp", []
    row, step = harness.BY_NAME[name], make_step(harness.task_of(name))

    def counted(state, batch):
        traced.append(1)
        return step(state, batch)

    strategy = harness.compiled(name, layout).strategy
    advance = strategy.compile(counted, harness.initial(name), stacked=False)
    state, after = harness.placed(harness.initial(name), strategy), []
    for number in range(3):
        batch = strategy.put(row.batch_at(number), stacked=False)
        with harness.quick_compilation():
            state, _ = advance(state, batch)
        after.append(len(traced))
    assert after[0] == after[-1]


@each_row
def test_lazy_phases_move_on_their_steps(row):
    task, (states, metrics) = harness.task_of(row.name), harness.history(row.name)
    for step, measured in enumerate(metrics):
        number, start = task.stage_at(step)
        for phase in task.stages[number].phases:
            mine = {k: v for k, v in measured.items() if k.startswith(f"{phase.name}/")}
            assert {f"{phase.name}/{m}" for m in ("loss", "grad_norm", "finite")} <= mine.keys()
            assert mine.pop(f"{phase.name}/finite")
            assert mine.pop(f"{phase.name}/counts")
            moves = phase.moves(step - start)
            assert all(np.isfinite(value) == moves for value in mine.values()), (step, mine)
            # A phase that moves by another's optimizer has no state of its own.
            if not moves and task.stages[number].mover(phase) is phase:
                old, new = (states[at].opt_state[phase.name] for at in (step, step + 1))
                assert changed(old, new) == set()


def test_the_table_has_lazy_phases():
    every = {
        phase.every
        for row in ROWS
        for stage in harness.task_of(row.name).stages
        for phase in stage.phases
        if not callable(phase.every)
    }
    assert every >= {1, 2, 3, 5}
