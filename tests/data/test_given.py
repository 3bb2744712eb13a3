"""Data that takes the place of an experiment's own, in every published file; the page on data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from genax.cli.main import main
from genax.core.data import Data, Shard
from genax.core.errors import GenaxError
from genax.data import given_or
from genax.data.stacked import Stacked
from genax.front.experiments import configure, load
from genax.front.files import import_file
from genax.running.run import stage_data
from tests.experiments import ROOT
from tests.test_experiments import each_file
from tests.test_settings import SMALLEST

# What names a published experiment's own data and settings of the run.
SHORT = ["--config.steps=4", "--config.num_samples=4", "--config.importance_samples=2"]
SHORT += ["--config.steps_per_call=1"]


def sources(*datas):
    """The data of which an experiment makes what it reads: smaller, stacked, binarised, encoded."""
    found = set()
    for data in datas:
        while hasattr(data, "data"):
            data = data.data
        found |= set(dict(data.sources).values()) if isinstance(data, Stacked) else {data}
    return found


@each_file
def test_every_experiment_takes_data(file):
    loaded = load(file)
    variant = next(name for name in SMALLEST if name in loaded.module.VARIANTS)
    loaded = load(f"{file}:{variant}")
    config = configure(loaded, {})
    own = loaded.build(config)
    (train,) = sources(*stage_data(own))
    (test,) = sources(own.evaluation or train)
    given = loaded.module.build(config, data=(train, test))
    assert sources(*stage_data(given)) == {train}
    assert sources(given.evaluation) == {test} or given.evaluation is own.evaluation is None
    one = loaded.module.build(config, data=train)
    assert sources(*stage_data(one)) == {train}
    with pytest.raises(GenaxError, match=r"build got the data 3, which is no Data; give .*data.md"):
        loaded.module.build(config, data=3)


def test_three_are_refused_and_none_is_the_own():
    data = load("experiments/vae/vae.py:digits")
    train = data.build(configure(data, {})).data
    assert given_or(None, lambda: (1, 2)) == (1, 2)
    with pytest.raises(GenaxError, match="build got 3 data; give one, or"):
        given_or((train, train, train), lambda: (1, 2))


@pytest.fixture
def page():
    """The class of data of docs/data.md, and the experiment that reads it."""
    text = (ROOT / "docs/data.md").read_text()
    parts = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    return [part for part in parts if "Discs" in part]


def test_the_class_of_the_page_is_data(page, tmp_path):
    (tmp_path / "discs.py").write_text(page[0])
    discs = import_file(tmp_path / "discs.py").Discs(last=9)
    assert isinstance(discs, Data)
    assert len([line for line in page[0].splitlines() if line]) <= 28
    batch = next(discs.train(4, 0, Shard()))
    assert {name: array.shape for name, array in batch.items()} == {
        "image": (4, 16, 16, 1),
        "id": (4,),
    }
    (batch,) = discs.evaluate(10, Shard())
    np.testing.assert_array_equal(batch["mask"], [1] * 9 + [0])


def test_the_swap_of_the_page_is_built(page, tmp_path):
    (tmp_path / "mine.py").write_text("\n".join(page))
    mine = load(str(tmp_path / "mine.py"))
    experiment = mine.build(configure(mine, {}))
    assert sources(experiment.data) == {mine.module.Discs(last=900)}
    assert sources(experiment.evaluation) == {mine.module.Discs(first=900)}


@pytest.mark.long
def test_the_swap_of_the_page_trains(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("\n".join(page))
    assert main(["train", "mine.py", "--workdir", "run", *SHORT]) == 0
    assert "done: step 4" in capsys.readouterr().out
