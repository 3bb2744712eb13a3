"""Experiments in a user's own files: what may be written there, and what is said of mistakes."""

import json

import pytest

from tests.cli.command import TOY, call, succeed, train

OWN = f"""
from __future__ import annotations
from genax.front.experiments import load
from genax.core import *
import jax.numpy as jnp
import optax
from dataclasses import replace
from beside import nothing

toy = load({TOY!r}).module
DEFAULTS = toy.DEFAULTS


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
        (("loss", "DEFAULTS = None"), "own.py:cpu has a setting of the wrong type"),
        (("loss", "DEFAULTS = {'steps': 'many'}"), "own.py:cpu has a setting of the wrong type"),
        (
            ("loss", "VARIANTS = {'cpu': toy.Variant('', {'widht': 3})}"),
            "sets widht, which DEFAULTS la",
        ),
        (
            ("loss", "VARIANTS = {'cpu': toy.Variant('', {'width': 'wide'})}"),
            "a setting of the wrong type",
        ),
        (("loss", "VARIANTS = {'cpu': 'two layers'}"), "is a str; write genax.settings.Variant("),
        (("loss", "del DEFAULTS"), "own.py has no DEFAULTS: it is not an experiment"),
        (
            ("loss", "del DEFAULTS", "get_config = lambda variant: toy.base_config()"),
            "own.py has a get_config, which genax no longer calls; write DEFAULTS = {...}",
        ),
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
    (folder / "mine.py").write_text("from own import build\nDEFAULTS, VARIANTS = {}, None")
    write()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    [found] = succeed("list", "--json").json["experiments"]
    assert found["path"] == "experiments/mine.py"
    assert list(found["variants"]) == ["cpu"]


@pytest.mark.parametrize("place", [TOY, f"{TOY}/run"])
def test_a_place_that_is_no_folder(place):
    assert "can't be used" in call(*train(TOY, place, steps=2)).refusal()


def test_missing_evaluation_data_is_said_before_training(tmp_path):
    """The digits have no such split."""
    experiment = "experiments/diffusion/ddpm.py:digits"
    sentence = call(*train(experiment, tmp_path / "run", test_split="nope", steps=10)).refusal()
    assert "no split" in sentence
    assert not (tmp_path / "run" / "checkpoints").exists()


GATHERS = """
from genax.core.nets import gather

def build(config):
    experiment = toy.build(config)
    contrast = Phase("contrast", whole, ("regressor",), optax.sgd(1e-3))
    stages = [Stage(experiment.task.stages[0].phases, 2), Stage([contrast])]
    return replace(experiment, task=replace(experiment.task, stages=stages))

def whole(nets, batch):
    return Loss((gather(nets.regressor(batch["x"]))[None] - batch["y"][:, None]) ** 2)
"""


def test_a_loss_of_the_whole_batch_in_microbatches(write, tmp_path):
    """Also if a later stage has it; it is refused before the folder is made."""
    own = write("loss", GATHERS)
    sentence = call(*train(own, tmp_path / "run", accumulate=2, steps=4)).refusal()
    assert "a loss gathers the whole batch" in sentence
    assert "Phase(embed=...)" in sentence
    assert "set config.accumulate=1" in sentence
    assert not (tmp_path / "run").exists()
    succeed(*train(own, tmp_path / "run", steps=4))


SCORES = """
def not_a_number(nets, batch):
    y = batch["y"]
    return Loss(y * jnp.nan, aux={"whole": y * 0, "none": Loss(y, 0 * y)})

def build(config):
    experiment = toy.build(config)
    evaluators = {"error": Evaluator(not_a_number), "right": Evaluator(toy.squared_error)}
    return replace(experiment, task=replace(experiment.task, evaluators=evaluators))
"""


SAID = """
from dataclasses import replace

from genax.core import Evaluator
from tests.cli import toy
from tests.cli.toy import DEFAULTS

def says(rows, workdir):
    notes = ["four outputs are few"]
    return {"outputs": len(rows), "floor": {"largest": 0.125}, "notes": notes}

def build(config):
    outputs = Evaluator(toy.draw, lambda rows, _: {"largest": rows.max()}, examples=4, says=says)
    return toy.build(config).replace(evaluators={"outputs": outputs})
"""


def strict_json(text):
    """The object that a parser of JSON proper reads, which knows neither NaN nor Infinity."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON: {text}")

    return json.loads(text, parse_constant=refuse)


def test_a_score_that_is_not_finite_is_never_shown_as_one(write, tmp_path):
    out = succeed(*train(write("loss", SCORES), tmp_path / "run", steps=2)).out
    for text in (out, succeed("eval", tmp_path / "run").out):
        assert "error: no score, as the mean is nan" in text.splitlines()
        assert "error/none: no score, as the mean is nan" in text.splitlines()
        assert "error/whole: 0" in text.splitlines()
        assert "nan" not in text.replace("no score, as the mean is nan", "")
    found = strict_json(succeed("eval", tmp_path / "run", "--json").out.splitlines()[-1])
    assert found["error"] is None
    assert found["error/none"] is None
    assert found["not_finite"] == {"error": "nan", "error/none": "nan"}
    assert found["error/whole"] == 0
    assert found["right"] > 0
    for name in ("run.json", "metrics.jsonl"):
        text = (tmp_path / "run" / name).read_text()
        for one in [text] if name == "run.json" else text.splitlines():
            strict_json(one)


def test_a_setting_that_json_cannot_hold(write, tmp_path):
    """Though it is no setting of the command line, but a default."""
    lines = """
DEFAULTS = toy.DEFAULTS | {"learning_rate": float("inf")}
"""
    sentence = call(*train(write("loss", lines), tmp_path / "run")).refusal()
    assert "config.learning_rate=inf is no finite number" in sentence
    assert not (tmp_path / "run").exists()


STAGES = """
def build(config):
    experiment = toy.build(config)
    task = experiment.task
    samplers = {"times": Sampler(times, as_text)}
    evaluators = {"times": Evaluator(lambda *given: Loss(times(*given)), examples=3)}
    return replace(experiment, task=replace(task, samplers=samplers, evaluators=evaluators))

def times(nets, batch):
    return 0.0 * batch["index"] + 100 * batch["stage"] + batch["step"]

def as_text(samples, batch, workdir) -> str:
    return str(samples.tolist())
"""


def test_samplers_and_evaluators_know_stage_and_step(write, tmp_path):
    """They know it in training, in `genax sample` and in `genax eval` alike."""
    folder = tmp_path / "run"
    settings = {"first_stage": 3, "steps": 5, "sample_every": 1, "checkpoint_every": 1, "keep": 9}
    succeed(*train(write("loss", STAGES), folder, eval_every=1, num_samples=2, **settings))
    times = {1: 1.0, 2: 2.0, 3: 100.0, 4: 101.0, 5: 102.0}
    log = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert {line["step"]: line["eval/times"] for line in log if "eval/times" in line} == times
    for step, time in times.items():
        drawn = (folder / "samples" / f"times_{step:08d}.txt").read_text()
        assert drawn == str([time, time])
    for step in (2, 4):
        assert succeed("sample", folder, "--step", step, "--num", 1).out.startswith(
            f"[{times[step]}]"
        )
        assert succeed("eval", folder, "--step", step, "--json").json["times"] == times[step]


FILES = """
def build(config):
    experiment = toy.build(config)
    samplers = {
        "mesh": Sampler(toy.draw, mesh, lambda num, workdir: {"names": ["point"] * num}),
        "sound": Sampler(toy.draw, sound),
        "plain": Sampler(toy.draw, plain),
    }
    return replace(experiment, task=replace(experiment.task, samplers=samplers))

def mesh(samples, batch, workdir) -> Rendered:
    lines = zip(batch["names"], batch["index"], samples)
    text = "".join(f"{name} {number} {value:.6f}\\n" for name, number, value in lines)
    return Rendered(text.encode(), ".ply")

def sound(samples, batch, workdir) -> Rendered:
    return Rendered(b"RIFF", ".wav")

def plain(samples, batch, workdir):
    return f"step {batch['step']}"
"""


@pytest.mark.long
def test_samples_as_files_of_other_kinds(write, tmp_path):
    """`render` sees the whole batch, though it is drawn in chunks, and returns bytes."""
    folder, out = tmp_path / "run", tmp_path / "out"
    settings = {"steps": 2, "num_samples": 5, "eval_batch_size": 4}
    said = succeed(*train(write("loss", FILES), folder, **settings)).out
    drawn = (folder / "samples" / "mesh_00000002.ply").read_bytes().decode()
    assert [line.split()[:2] for line in drawn.splitlines()] == [
        ["point", str(i)] for i in range(5)
    ]
    assert (folder / "samples" / "sound_00000002.wav").read_bytes() == b"RIFF"
    assert said.count("samples/mesh is not in TensorBoard, which shows no .ply") == 1
    assert "samples/sound is not in" not in said

    assert str(out / "a.ply") in succeed("sample", folder, "--out", out / "a.ply").out
    assert (out / "a.ply").read_text() == drawn
    assert str(out / "b.ply") in succeed("sample", folder, "--out", out / "b").out
    for name, wrong, right in [("mesh", "c.png", ".ply"), ("plain", "d.wav", ".txt")]:
        sentence = call("sample", folder, "--sampler", name, "--out", out / wrong).refusal()
        path = folder / "samples" / f"{name}_00000002_seed0{right}"
        assert f"but {right}; the samples are in {path}" in sentence
        assert path.read_text() == (drawn if right == ".ply" else "step 2")
        assert not (out / wrong).exists()


def test_scores_beside_their_floor_and_the_file_that_says_how(write, tmp_path):
    out = succeed(*train(write("said", SAID), tmp_path, steps=2)).out
    for text in (out, succeed("eval", tmp_path).out):
        [line] = [line for line in text.splitlines() if line.startswith("outputs/largest: ")]
        assert line.endswith(" (floor 0.125)")
        assert "outputs: four outputs are few" in text.splitlines()
        assert "floor" not in next(line for line in text.splitlines() if "error: " in line)
    found = strict_json(succeed("eval", tmp_path, "--json").out.splitlines()[-1])
    assert found["floor"] == {"outputs/largest": 0.125}
    assert found["said"] == {"outputs": {"outputs": 4, "notes": ["four outputs are few"]}}
    folder = tmp_path / "evaluation"
    result = strict_json((folder / "00000002.json").read_text())
    assert found.items() <= result.items()
    assert result["weights"] == "averages"
    succeed("eval", tmp_path, "--raw")
    succeed("eval", tmp_path, "--config.eval_batch_size=4")
    assert {path.name for path in folder.iterdir()} == {
        "00000002.json",
        "00000002_raw.json",
        "00000002_eval_batch_size=4.json",
    }
    raw = strict_json((folder / "00000002_raw.json").read_text())
    assert raw["weights"] == "as trained, without averages"
    assert raw["outputs/largest"] != result["outputs/largest"]
    (tmp_path / "evaluation").rename(tmp_path / "kept")
    (tmp_path / "evaluation").touch()
    unwritten = succeed("eval", tmp_path, "--json")
    assert unwritten.json == found
    assert "no file keeps these scores" in unwritten.err
