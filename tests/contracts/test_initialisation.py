"""The first state: the same as shapes, as arrays, and created in parts on several devices."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from genax.core import Stage, init_state, tree
from genax.core.devices import create
from tests.compilation import USERS_OPTIONS
from tests.contracts import harness
from tests.contracts.rows import ROWS

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def shapes(state):
    return {path: (leaf.shape, leaf.dtype) for path, leaf in tree.flatten(state).items()}


@each_row
def test_shapes_are_those_of_the_real_state(row):
    traced = jax.eval_shape(harness.initialiser(row))
    assert shapes(traced) == shapes(harness.initial(row.name))


@each_row
def test_created_in_parts_is_created_whole(row):
    """To the bit, or to 1e-6 where the table says why."""
    tolerance = 1e-6 if "created_in_parts" in row.exceptions else 0.0
    strategy = harness.compiled(row.name, "sharded").strategy
    with harness.quick_compilation():
        state = create(harness.initialiser(row), strategy)
    whole = tree.flatten(harness.initial(row.name))
    for path, leaf in tree.flatten(harness.on_host(state)).items():
        np.testing.assert_allclose(leaf, whole[path], tolerance, tolerance, err_msg=path)
    assert not all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.params))


@each_row
def test_no_collection_has_moved(row):
    """One that moves while initialising would move twice where each loss is called twice."""
    if not harness.initial(row.name).collections:
        pytest.skip("the networks have no collection besides the parameters")
    task = harness.task_of(row.name)
    twice = replace(
        task, stages=[Stage([_called_twice(p) for p in s.phases], s.steps) for s in task.stages]
    )
    again = partial(init_state, twice, harness.SEED, row.element)
    assert _collections(again) == _collections(harness.initialiser(row))


def _collections(create) -> str:
    """The digest of a state's collections, as users' runs have them to the bit."""
    program = jax.jit(lambda: create().collections, compiler_options=USERS_OPTIONS)
    return tree.digest(program())


def _called_twice(phase):
    def loss(*arguments):
        phase.loss(*arguments)
        return phase.loss(*arguments)

    return replace(phase, loss=loss)


@each_row
def test_state_before_the_first_step(row):
    state = harness.initial(row.name)
    assert state.step == 0
    leaves = tree.flatten(state.params) | tree.flatten(state.collections)
    assert all(leaf.tobytes() == leaves[path].tobytes() for path, leaf in state.ema.items())
    first = harness.task_of(row.name).stages[0]
    assert set(state.opt_state) == {first.mover(phase).name for phase in first.phases}
