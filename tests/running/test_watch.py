"""Means of metrics by step, and the stop where one is not finite."""

import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import GenaxError, Phase, Stage, Task
from genax.running.watch import IN_FLIGHT, Watch
from tests.core.toys import Line, Networks, noisy_error


def phase(name, every=1):
    return Phase(name, noisy_error, ("line",), optax.sgd(0.1), every)


TASK = Task(Networks(Line()), [Stage([phase("a")], 4), Stage([phase("a"), phase("b", 3)])])


def metrics(phases, loss, finite=True, counts=True):
    """What a step, or with arrays several steps, would measure."""
    loss, finite = np.asarray(loss, np.float32), np.asarray(finite)
    counts = np.broadcast_to(counts, finite.shape)
    return {
        f"{name}/{metric}": jnp.asarray(value)
        for name in phases
        for metric, value in (
            ("loss", loss),
            ("grad_norm", loss),
            ("finite", finite),
            ("counts", counts),
        )
    }


IDS = np.arange(8)


def test_means_are_of_the_steps_they_name(tmp_path):
    watch = Watch(TASK, tmp_path, 1)
    for step in range(4):
        watch.add(step, metrics("a", step), IDS)
        assert watch.read == max(0, step + 1 - IN_FLIGHT)
    watch.drain()
    assert watch.read == 4
    assert watch.means(2) == {"a/loss": 0.5, "a/grad_norm": 0.5}
    assert watch.means(2) == {}
    assert watch.means(4) == {"a/loss": 2.5, "a/grad_norm": 2.5}


def test_a_phase_that_rests_does_not_count(tmp_path):
    """In the second stage, phase b moves at steps 4, 7 and 10; what it measures between is NaN."""
    watch = Watch(TASK, tmp_path, 1)
    for step in range(4, 10):
        b = step if (step - 4) % 3 == 0 else np.nan
        watch.add(step, metrics("a", 1.0) | metrics("b", b), IDS)
    watch.drain()
    assert watch.means(10) == {"a/loss": 1.0, "a/grad_norm": 1.0, "b/loss": 5.5, "b/grad_norm": 5.5}


def test_several_steps_a_dispatch(tmp_path):
    watch = Watch(TASK, tmp_path, 4)
    watch.add(0, metrics("a", [0, 1, 2, 3], [True] * 4), np.zeros((4, 8)))
    watch.drain()
    assert watch.means(2)["a/loss"] == 0.5
    assert watch.means(4)["a/loss"] == 2.5


@pytest.mark.parametrize("k", [1, 4])
def test_a_value_that_is_not_finite(k, tmp_path):
    """At step 7, counted from one, which is the third of a dispatch of four."""
    watch = Watch(TASK, tmp_path, k)
    ids = np.arange(32).reshape(4, 8)
    losses, finite = np.array([1, 1, np.inf, 1]), np.array([True, True, False, True])
    rest = metrics("b", np.full(4, 1.0), np.full(4, True))
    measured = metrics("a", losses, finite) | rest
    if k == 4:
        watch.add(4, measured, ids)
    else:
        for i in range(3):
            watch.add(4 + i, {name: value[i] for name, value in measured.items()}, ids[i])
    with pytest.raises(GenaxError, match=r"phase 'a' is not finite at step 7 \(loss inf"):
        watch.drain()
    found = json.loads((tmp_path / "nonfinite.process0.json").read_text())
    assert (found["step"], found["phase"]) == (7, "a")
    assert found["records"] == list(range(16, 24))
    # The steps before it are still there for the log.
    assert watch.means(6)["a/loss"] == 1.0


def test_a_batch_in_which_nothing_counts_names_its_examples(tmp_path):
    watch = Watch(TASK, tmp_path, 1)
    watch.add(0, metrics("a", np.nan, False, counts=False), np.array([31, 7]))
    with pytest.raises(GenaxError, match=r"no element of its batch counts.*records are 31, 7"):
        watch.drain()


def test_a_first_loss_that_is_no_number_may_be_of_a_label_without_a_row(tmp_path):
    watch = Watch(TASK, tmp_path, 1)
    watch.add(0, metrics("a", np.nan, False), np.array([31, 7]))
    with pytest.raises(GenaxError, match="a label or token that no table of a network has a row"):
        watch.drain()
