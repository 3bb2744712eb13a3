"""Experiments in a user's own files: what may be written there, and what is said of mistakes."""

import pytest

from tests.cli.command import TOY, call, succeed, train

OWN = f"""
from __future__ import annotations
from genax.cli.experiments import load
from genax.core import *
import optax
from dataclasses import replace
from beside import nothing

toy = load({TOY!r}).module
get_config = toy.get_config


def build(config):
    experiment = toy.build(config)
    stage = Stage([Phase("fit", squared_error, ("regressor",), optax.sgd(1e-3))])
    return replace(experiment, task=replace(experiment.task, stages=[stage]))


def squared_error(nets, batch):
    loss = toy.squared_error(nets, batch)
    return LOSS


class Linear(toy.nn.Module):
    size: int
"""


@pytest.fixture
def write(tmp_path):
    """(loss, more lines) -> the path of an experiment that returns it."""

    def make(loss="loss", *more):
        (tmp_path / "beside.py").write_text("nothing = None")
        path = tmp_path / "own.py"
        path.write_text("\n".join([OWN.replace("LOSS", loss), *more]))
        return str(path)

    return make


def test_a_file_of_ones_own(write, tmp_path):
    """With annotations that are read late, a Linen module, and a module beside it."""
    succeed(*train(write(), tmp_path / "run", steps=2))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("loss.values",), "returned DynamicJaxprTracer; it returns a genax.core.Loss"),
        (("Loss(loss.values, aux={'loss': loss.values})",), "names a term or metric 'loss'"),
        (("{'counts': loss}",), "names a term or metric 'counts'"),
        (("loss", "get_config = lambda variant: {}"), "returned dict; it returns genax.core.base_"),
        (("loss", "build = lambda config: None"), "returned NoneType; it returns a genax.core.Exp"),
    ],
)
def test_mistakes(lines, said, write, tmp_path):
    sentence = call(*train(write(*lines), tmp_path / "run", steps=2)).refusal()
    assert said in sentence


def test_list_runs_no_other_files(write, tmp_path, monkeypatch):
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "broken.py").write_text("def build(:")
    (folder / "script.py").write_text("raise SystemExit('was run')")
    (folder / "mine.py").write_text("from own import build, get_config")
    write()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    [found] = succeed("list", "--json").json["experiments"]
    assert found["path"] == "experiments/mine.py"


@pytest.mark.parametrize("place", [TOY, f"{TOY}/run"])
def test_a_place_that_is_no_folder(place):
    assert "can't be used" in call(*train(TOY, place, steps=2)).refusal()


def test_missing_evaluation_data_is_said_before_training(tmp_path):
    """The digits have no such split."""
    experiment = "experiments/diffusion/ddpm.py:digits"
    sentence = call(*train(experiment, tmp_path / "run", test_split="nope", steps=10)).refusal()
    assert "no split" in sentence
    assert not (tmp_path / "run" / "checkpoints").exists()
