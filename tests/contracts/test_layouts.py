"""One run is the same on any number of devices, sharded, under pmap and in microbatches."""

from __future__ import annotations

import chex
import jax
import numpy as np
import pytest

from genax.core import tree
from tests.contracts import harness
from tests.contracts.rows import BATCH_SIZE, ROWS

CASES = [
    pytest.param(row.name, layout, id=f"{row.name}-{layout}")
    for row in ROWS
    for layout, how in harness.LAYOUTS.items()
    if layout != harness.REFERENCE
    and layout not in row.exceptions
    and (row.is_toy or not how.within or how.within in row.exceptions)
]
TOLERANCE = 1e-5


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_layout_does_not_change_a_run(name, layout):
    states, measured = harness.history(name)
    reference, (other, metrics) = states[harness.STEPS], harness.last_of(name, layout)
    for part in ("params", "ema", "collections", "fixed"):
        old, new = tree.flatten(getattr(reference, part)), tree.flatten(getattr(other, part))
        assert old.keys() == new.keys()
        for path in old:
            np.testing.assert_allclose(
                new[path], old[path], TOLERANCE, TOLERANCE, err_msg=f"{part}/{path}"
            )
    for old, new in zip(measured, metrics, strict=False):
        for key in old:
            # A share of hits jumps where rounding decides between two equal logits.
            slack = 1 / BATCH_SIZE if key.endswith("/accuracy") else 0.0
            np.testing.assert_allclose(
                new[key], old[key], TOLERANCE, TOLERANCE + slack, err_msg=key
            )
    for key in metrics[0]:
        # Adam hides the scale of a gradient; before the first step nothing has drifted apart yet.
        if key.endswith("/grad_norm"):
            np.testing.assert_allclose(metrics[0][key], measured[0][key], 1e-4, err_msg=key)


# Each reason is shown by the first row that has it.
EXCEPTED = {
    row.exceptions[layout]: (row, layout)
    for row in reversed(ROWS)
    for layout in harness.LAYOUTS
    if layout in row.exceptions
}


@pytest.mark.parametrize(
    ("row", "layout"), EXCEPTED.values(), ids=lambda part: getattr(part, "name", part)
)
def test_exceptions_are_needed(row, layout):
    """An exception that a run does not need would hide a fault one day."""
    reference = harness.history(row.name)[0][harness.STEPS]
    other, _ = harness.last_of(row.name, layout)
    chex.assert_tree_all_finite(other.params)
    differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), reference.params, other.params)
    assert max(jax.tree.leaves(differences)) > TOLERANCE


def test_exceptions_are_documented():
    others = {"steps_per_call", "created_in_parts", "differences", "moves"}
    for row in ROWS:
        assert set(row.exceptions) <= {*harness.LAYOUTS, *others}, row.name
        assert all(row.exceptions.values()), row.name


def test_devices_share_what_is_made_of_noise_alone():
    """A generator's phase reads no data; each of four devices still does about a quarter of it."""
    flops = {}
    for layout in (harness.REFERENCE, "sharded"):
        name = "wgan_gp"
        strategy, step = harness.compiled(name, layout)
        batch = strategy.put(harness.BY_NAME[name].batch_at(0), stacked=False)
        with harness.quick_compilation():
            program = step.lower(jax.eval_shape(harness.initialiser(harness.BY_NAME[name])), batch)
            flops[layout] = program.compile().cost_analysis()["flops"]
    assert flops["sharded"] < 0.4 * flops[harness.REFERENCE]


def test_simulated_devices():
    assert jax.device_count() >= 4
