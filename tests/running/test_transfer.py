"""Parameters of one run for another: which become which, and what moves along."""

import jax
import numpy as np
import pytest

from genax.core import GenaxError, tree
from genax.core.devices import create
from genax.running.record import what_runs
from genax.running.transfer import PartialLoad, load_from, load_partial, renamed
from tests.contracts import harness
from tests.core.toys import line_state
from tests.running.test_checkpoint import SPLIT, adam_task


def test_a_partial_load_moves_averages_of_statistics_along():
    state = harness.initial("batch_norm_gan")
    paths = [path for path in state.ema if path.startswith("batch_stats/")]
    source = {"old": np.full(state.ema[paths[0]].shape, 7.0)}
    with pytest.raises(GenaxError, match="nothing under 'new'"):
        load_partial(state, source, {"new": f"collections/{paths[0]}"})
    state = jax.tree.map(jax.numpy.asarray, state)
    loaded = tree.flatten(load_partial(state, source, {"old": f"collections/{paths[0]}"})[0])
    for part in ("collections", "ema"):
        np.testing.assert_array_equal(loaded[f"{part}/{paths[0]}"], source["old"])


def test_a_partial_load_moves_averages_along():
    state = create(lambda: line_state(adam_task()), SPLIT)
    kernel = np.arange(4, dtype=np.float64).reshape(4, 1)
    source = {"old/weights": kernel, "old/more": np.zeros(3)}
    loaded, report = load_partial(state, source, {"old/weights": "params/line/Dense_0/kernel"})
    before, after = tree.flatten(state), tree.flatten(loaded)
    for path in ("params/line/Dense_0/kernel", "ema/line/Dense_0/kernel"):
        np.testing.assert_array_equal(after[path], kernel)
        assert after[path].dtype == before[path].dtype
        assert after[path].sharding == before[path].sharding
    for path in set(before) - {"params/line/Dense_0/kernel", "ema/line/Dense_0/kernel"}:
        np.testing.assert_array_equal(after[path], before[path], err_msg=path)
    assert report.taken == ("params/line/Dense_0/kernel",)
    assert report.left == ("old/more",)
    assert report.kept == ("params/line/Dense_0/bias",)
    assert report.cast == report.taken
    assert str(report).splitlines()[0] == "taken 1: params/line/Dense_0/kernel"
    assert "cast to another dtype 1: params/line/Dense_0/kernel" in str(report)


class Published:
    """Weights of a package."""

    def __str__(self):
        return "a package"

    def arrays(self):
        return {"params/kernel": np.full((4, 1), 3.0, np.float32)}


def test_weights_that_no_folder_holds():
    state = create(lambda: line_state(adam_task()), SPLIT)
    loaded, report = load_from(Published(), state, {"params": "params/line/Dense_0"})
    assert report.taken == ("params/line/Dense_0/kernel",)
    np.testing.assert_array_equal(tree.flatten(loaded)[report.taken[0]], 3.0)
    said = [what_runs({"experiment": "a.py"}, None, {Published(): {}}) for _ in range(2)]
    assert said[0] == said[1]
    assert '"a package"' in said[0]


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        ("params/decoder/a/kernel", "params/decoder", "params/model", "params/model/a/kernel"),
        ("params/decoder_2/a", "params/decoder", "params/model", None),
        ("params/a_3/norm/scale", "params/a_*/norm", "params/b/c_*/ln", "params/b/c_3/ln/scale"),
        ("params/a/b/c/kernel", "params/**/kernel", "params/x/**/kernel", "params/x/a/b/c/kernel"),
        ("params/a/b", "*/*/b", "*/*/c", "params/a/c"),
    ],
)
def test_renamed(path, old, new, expected):
    assert renamed(path, old, new) == expected


@pytest.mark.parametrize(("old", "new"), [("a/*", "a"), ("a", "a/*"), ("a_*/**", "a/*")])
def test_wildcards_that_nothing_stands_for(old, new):
    with pytest.raises(GenaxError, match="different numbers of wildcards"):
        renamed("a/b", old, new)


def test_many_layers_are_reported_as_one():
    paths = tuple(f"params/decoder/blocks_{number}/norm/scale" for number in range(30))
    report = str(PartialLoad(taken=paths, left=(), kept=paths[:2], cast=()))
    assert report.startswith("taken 30: params/decoder/blocks_*/norm/scale\n")
    assert "kept as initialised 2: params/decoder/blocks_0/norm/scale, params/decoder/bl" in report
