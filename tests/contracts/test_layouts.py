"""One run is the same on any number of devices, sharded, under pmap and in microbatches."""

from __future__ import annotations

import chex
import jax
import numpy as np
import pytest

from genax.core import tree
from tests.contracts import harness
from tests.contracts.rows import ROWS

CASES = [
    pytest.param(row.name, layout, id=f"{row.name}-{layout}")
    for row in ROWS
    for layout, how in harness.LAYOUTS.items()
    if layout != harness.REFERENCE and layout not in row.exceptions and (how.toys or not row.is_toy)
]
TOLERANCE = 1e-5


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_layout_does_not_change_a_run(name, layout):
    states, measured = harness.history(name)
    reference, (other, metrics) = states[harness.STEPS], harness.last_of(name, layout)
    for part in ("params", "ema", "collections"):
        old, new = tree.flatten(getattr(reference, part)), tree.flatten(getattr(other, part))
        assert old.keys() == new.keys()
        for path in old:
            np.testing.assert_allclose(
                new[path], old[path], TOLERANCE, TOLERANCE, err_msg=f"{part}/{path}"
            )
    for key, value in measured[harness.STEPS - 1].items():
        np.testing.assert_allclose(metrics[key], value, TOLERANCE, TOLERANCE, err_msg=key)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_exceptions_are_documented(row):
    assert set(row.exceptions) <= set(harness.LAYOUTS)
    assert all(row.exceptions.values())


@pytest.mark.parametrize("row", [row for row in ROWS if row.exceptions], ids=lambda row: row.name)
def test_exceptions_are_needed(row):
    """An exception that the run does not need would hide a fault one day."""
    layout = next(iter(row.exceptions))
    reference = harness.history(row.name)[0][harness.STEPS]
    other, _ = harness.last_of(row.name, layout)
    chex.assert_tree_all_finite(other.params)
    differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), reference.params, other.params)
    assert max(jax.tree.leaves(differences)) > TOLERANCE


def test_simulated_devices():
    assert jax.device_count() >= 4
