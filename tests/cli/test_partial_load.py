"""Starting from parameters of another run: named one by one, nothing silently left out."""

import numpy as np
import pytest

from genax.running.checkpoint import Checkpoints
from tests.cli.command import TOY, call, inspect, succeed, train

SMALL = {"steps": 4, "checkpoint_every": 4}
LAYER = "params/regressor/Dense_0"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("source")
    succeed(*train(TOY, workdir, **SMALL))
    return workdir


def arrays(workdir):
    checkpoints = Checkpoints(workdir, keep=None)
    return checkpoints.arrays(checkpoints.steps[0])


def start_from(source, workdir, *maps, **settings):
    arguments = ("--init-from", source, *(x for text in maps for x in ("--map", text)))
    return call(*train(TOY, workdir, *arguments, **SMALL | settings))


def test_all_parameters_and_their_averages(source, tmp_path):
    """Frozen by a learning rate of zero, the new run ends with what it was given."""
    result = start_from(source, tmp_path, learning_rate=0.0, seed=7, steps=1)
    assert result.code == 0, result.err
    for name in ("Dense_0/kernel", "Dense_0/bias", "Dense_1/kernel", "Dense_1/bias"):
        assert f"params/regressor/{name}" in result.out.splitlines()[0]
    assert result.out.startswith(f"from {source}: taken 4: ")
    given, had = arrays(tmp_path), arrays(source)
    for path in had:
        if path.startswith(LAYER):
            np.testing.assert_array_equal(given[path], had[path])
            average = path.replace("params/", "ema/", 1)
            np.testing.assert_allclose(given[average], had[path], atol=1e-6)
    assert int(given["step"]) == 1


def test_one_layer_by_name(source, tmp_path):
    result = start_from(source, tmp_path, f"{LAYER}={LAYER}")
    assert result.code == 0, result.err
    taken, left, kept = result.out.splitlines()[:3]
    assert taken == f"from {source}: taken 2: {LAYER}/bias, {LAYER}/kernel"
    assert left.startswith("left in the source ")
    assert "params/regressor/Dense_1/kernel" in left
    assert "opt_state/fit" in left
    assert kept == (
        "kept as initialised 2: params/regressor/Dense_1/bias, params/regressor/Dense_1/kernel"
    )


def test_layers_by_a_pattern(source, tmp_path):
    """What each wildcard matches stands in its place."""
    result = start_from(source, tmp_path, "params/regressor/Dense_*/bias=params/*/Dense_1/bias")
    assert "would go to params/0/Dense_1/bias, which is not there" in result.refusal()
    result = start_from(source, tmp_path, "*/regressor/Dense_*/bias=*/regressor/Dense_*/bias")
    assert result.code == 0, result.err
    taken, _, kept = result.out.splitlines()[:3]
    layers = [f"params/regressor/Dense_{number}" for number in range(2)]
    # Averages have such paths too.
    averages = [f"ema/regressor/Dense_{number}" for number in range(2)]
    assert taken.endswith(", ".join(f"{layer}/bias" for layer in (*averages, *layers)))
    assert kept.endswith("2: " + ", ".join(f"{layer}/kernel" for layer in layers))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("params/decoder=params/regressor", "the source has nothing under 'params/decoder'"),
        (f"{LAYER}=params/other", "would go to params/other/bias, which is not there"),
        (f"{LAYER}=params/regressor/Dense_1", "has shape (16,), params/regressor/Dense_1/bias has"),
        ("params", "--map params is not OLD=NEW"),
        ("params/*=params", "'params/*' and 'params' have different numbers of wildcards"),
    ],
)
def test_what_does_not_fit_is_refused(text, said, source, tmp_path):
    sentence = start_from(source, tmp_path, text).refusal()
    assert said in sentence
    assert not (tmp_path / "checkpoints").exists() or not any((tmp_path / "checkpoints").iterdir())


def test_not_into_a_run_that_has_begun(source, tmp_path):
    succeed(*train(TOY, tmp_path, **SMALL))
    before = inspect(tmp_path)["digest"]
    assert "a partial load starts a new run" in start_from(source, tmp_path).refusal()
    assert inspect(tmp_path)["digest"] == before
