"""Experiments that were defined in a notebook, written as files."""

from __future__ import annotations

import pytest

import genax
from genax.front.files import import_file
from genax.front.written import UnwrittenError, written
from tests.cli.command import TOY, succeed
from tests.front.cells import play

CELLS = [
    f"""
import functools
from dataclasses import dataclass
import jax.numpy as jnp
import optax
import flax.linen as nn
from genax.core import Evaluator, Loss
from genax.settings.ranges import COUNT, Range
import genax

toy = genax.load({TOY!r})
unused = object()
SCALE = {{"error": (2.0, 3)}}
""",
    """
class Plain(nn.Module):
    size: int = 4

@dataclass(frozen=True)
class Factor:
    by: float = 1.0
    names: tuple = ()
""",
    """
def times(error, factor):
    return factor.by * error

twice = functools.partial(times, factor=Factor(2.0, names=("a",)))

def scale(error):
    return SCALE["error"][0] * twice(error)

@functools.partial
def weighted(error):
    return scale(error)

class Mine(Plain):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.Dense(self.size)(x))[..., 0]

def loss(nets, batch):
    error = nets.regressor(batch["x"]) - batch["y"]
    return Loss(scale(jnp.square(error)))

def build(config):
    '''A toy with a loss of its own.'''
    return toy.build(config).replace(
        losses={"fit": loss, "polish": loss},
        networks={"regressor": Mine(config.size)},
        evaluators={"error": Evaluator(loss)},
    )
""",
    """
class Rate:
    pass

experiment = genax.define(
    build,
    toy.DEFAULTS | {"size": 3, "log_every": 2},
    {"cpu": genax.Variant("small"), "large": genax.Variant("large", {"size": 9})},
    {"size": COUNT},
)
""",
]


def test_a_notebooks_experiment_is_opened_in_another_process(tmp_path):
    experiment = play(CELLS)["experiment"]
    run = genax.train(experiment, tmp_path / "run", {"steps": 4})
    text = (tmp_path / "run" / "experiment.py").read_text()
    assert "unused" not in text
    assert "Rate" not in text
    assert "weighted" not in text
    module = import_file(tmp_path / "run" / "experiment.py")
    assert module.__doc__ == "A toy with a loss of its own."
    assert (module.DEFAULTS, module.VARIANTS, module.RANGES) == (
        experiment.DEFAULTS,
        experiment.VARIANTS,
        experiment.RANGES,
    )
    scores = run.evaluate()
    assert succeed("eval", tmp_path / "run", "--json").json == {"step": 4, **scores}
    assert genax.open(tmp_path / "run").evaluate() == scores
    assert genax.open(tmp_path / "run", experiment).evaluate() == scores
    # The file goes on with the run.
    file = tmp_path / "run" / "experiment.py"
    out = succeed("train", file, "--workdir", tmp_path / "run", "--config.steps=6").out
    assert "resuming at step 4" in out
    assert "changed experiment" not in out
    assert genax.train(experiment, tmp_path / "run", {"steps": 8}).checkpoints[-1] == 8


def test_a_cell_that_changed_is_said(tmp_path, capfd):
    namespace = play(CELLS)
    genax.train(namespace["experiment"], tmp_path, {"steps": 2})
    play([CELLS[2].replace("jnp.square(error)", "jnp.abs(error)"), CELLS[3]], namespace)
    genax.train(namespace["experiment"], tmp_path, {"steps": 4})
    out = capfd.readouterr().out
    assert "+    return Loss(scale(jnp.abs(error)))" in out
    assert "jnp.square" in (tmp_path / "experiment.00000002.py").read_text()


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("SCALE = {'error': object()}", "'SCALE' holds a object; make it in build"),
        ("scale = lambda error: error", "'scale' is not defined by a def or class of this name"),
        ("scale = optax.sgd(1e-3).update", "'scale' is not defined by a def or class"),
        (
            "draw = toy.module.draw\ndef scale(x): return draw",
            "'draw' comes from experiment_toy, which no other program",
        ),
        ("import types; nn = types.ModuleType('nn')", "'nn' is a module that no other program"),
    ],
)
def test_what_no_file_can_hold(cell, reason):
    namespace = play([*CELLS, cell])
    with pytest.raises(UnwrittenError, match=reason):
        written(namespace["experiment"].module)


def test_a_run_without_a_copy_is_opened_with_its_experiment(tmp_path, capfd):
    namespace = play(CELLS)
    namespace["scale"] = lambda error: 2 * error
    experiment = namespace["experiment"]
    genax.train(experiment, tmp_path, {"steps": 2})
    assert "keeps no copy of the experiment, as 'scale' is not defined by" in capfd.readouterr().out
    with pytest.raises(genax.GenaxError, match=r"give the experiment: genax\.open\(WORKDIR, exp"):
        genax.open(tmp_path)
    assert genax.open(tmp_path, experiment).evaluate()["error"] > 0
