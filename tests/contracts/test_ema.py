"""Averages follow average <- d average + (1 - d) parameter, computed here by hand."""

from __future__ import annotations

import numpy as np
import pytest

from genax.core import tree
from genax.nn.ema import ema_warmup
from genax.running import sampling
from tests.contracts import harness
from tests.contracts.rows import ROWS

AVERAGED = [row for row in ROWS if harness.task_of(row.name).ema]


@pytest.mark.parametrize("row", AVERAGED, ids=lambda row: row.name)
def test_recurrence(row):
    task, states = harness.task_of(row.name), harness.history(row.name)[0]
    inside = {path.split("/")[0] for path in task.ema} & set(states[0].collections)
    leaves = [tree.flatten(s.params) | tree.flatten(s.collections) for s in states]
    named = {p for p in leaves[0] if any(tree.matches(pattern, p) for pattern in task.ema)}
    assert set(states[0].ema) == named
    assert all(any(path.startswith(f"{name}/") for path in named) for name in inside)
    for path, start in states[0].ema.items():
        decay = next(d for pattern, d in task.ema.items() if tree.matches(pattern, path))
        average = start.astype(np.float64)
        for step, state in enumerate(states[1:]):
            d = float(decay(step)) if callable(decay) else decay
            average = d * average + (1 - d) * leaves[step + 1][path]
            np.testing.assert_allclose(state.ema[path], average, rtol=1e-5, atol=1e-7)


def test_first_pattern_gives_the_decay():
    """Of the denoiser's two decays; Dense_0 has the one that names it alone."""
    states = harness.history("denoiser")[0]
    path = "denoiser/Dense_0/kernel"
    old, new = states[1].ema[path], tree.flatten(states[2].params)[path]
    np.testing.assert_allclose(states[2].ema[path], 0.5 * old + 0.5 * new, rtol=1e-5)


def test_warmup():
    decay = ema_warmup(0.9)
    np.testing.assert_allclose([decay(0), decay(9), decay(10_000)], [2 / 11, 11 / 20, 0.9], 1e-6)


@pytest.mark.parametrize("name", ["stylegan2_ada", "batch_norm_gan"])
def test_averages_take_the_place_of_what_they_are_of(name):
    state = harness.history(name)[0][-1]
    used = tree.flatten(sampling.variables(state))
    plain = tree.flatten(sampling.variables(state, averaged=False))
    assert used.keys() == plain.keys()
    for path, leaf in plain.items():
        average = state.ema.get(path.removeprefix("params/"), leaf)
        np.testing.assert_array_equal(used[path], average)
        assert path.split("/")[1] == "generator" or average is leaf
