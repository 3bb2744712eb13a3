"""Losses and gradients are finite where networks compute in bfloat16 over float32 parameters."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import make_step
from genax.core.step import init_optimizers
from tests.contracts import harness
from tests.contracts.rows import ROWS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_bfloat16_is_finite(row):
    """Every phase moves in the step."""
    task = harness.task_of(row.name, jnp.bfloat16)
    stage = len(task.stages) - 1
    start = sum(earlier.steps for earlier in task.stages[:stage])
    phases = [dataclasses.replace(phase, every=1) for phase in task.stages[stage].phases]
    last = dataclasses.replace(task.stages[stage], phases=phases)
    task = dataclasses.replace(task, stages=[*task.stages[:stage], last])
    state = harness.initial(row.name)
    state = state.replace(
        step=jnp.int32(start), opt_state=init_optimizers(task, stage, state.params)
    )
    program = jax.jit(make_step(task, stage)).lower(state, row.batch_at(start))
    assert "bf16" in program.as_text()
    with harness.quick_compilation():
        new, metrics = program.compile()(state, row.batch_at(start))
    assert all(np.isfinite(value) for value in metrics.values()), metrics
    for old, leaf in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True):
        assert leaf.dtype == old.dtype
        assert np.isfinite(leaf).all()
