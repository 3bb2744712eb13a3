"""Averages follow average <- d average + (1 - d) parameter, computed here by hand."""

from __future__ import annotations

import numpy as np
import pytest

from genax.core import ema, tree
from tests.contracts import harness
from tests.contracts.rows import ROWS

AVERAGED = [row for row in ROWS if harness.task_of(row.name).ema]


@pytest.mark.parametrize("row", AVERAGED, ids=lambda row: row.name)
def test_recurrence(row):
    task, states = harness.task_of(row.name), harness.history(row.name)[0]
    assert set(states[0].ema) == set(tree.select(states[0].params, tuple(task.ema)))
    for path, start in states[0].ema.items():
        decay = next(d for pattern, d in task.ema.items() if tree.matches(pattern, path))
        average = start.astype(np.float64)
        for step, state in enumerate(states[1:]):
            d = float(decay(step)) if callable(decay) else decay
            average = d * average + (1 - d) * tree.flatten(state.params)[path]
            np.testing.assert_allclose(state.ema[path], average, rtol=1e-5, atol=1e-7)


def test_first_pattern_gives_the_decay():
    """Of the denoiser's two decays; Dense_0 has the one that names it alone."""
    states = harness.history("denoiser")[0]
    path = "denoiser/Dense_0/kernel"
    old, new = states[1].ema[path], tree.flatten(states[2].params)[path]
    np.testing.assert_allclose(states[2].ema[path], 0.5 * old + 0.5 * new, rtol=1e-5)


def test_warmup():
    decay = ema.ema_warmup(0.9)
    np.testing.assert_allclose([decay(0), decay(10), decay(10_000)], [0.1, 11 / 20, 0.9], rtol=1e-6)


def test_averages_take_the_place_of_parameters():
    state = harness.history("stylegan2_ada")[0][-1]
    used = tree.flatten(ema.averaged(state.params, state.ema))
    for path, leaf in tree.flatten(state.params).items():
        expected = state.ema[path] if path.startswith("generator/") else leaf
        np.testing.assert_array_equal(used[path], expected)
