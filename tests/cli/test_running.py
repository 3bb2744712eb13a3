"""Checkpoint policies, traces and compiled programs, as settings of a run."""

import json
import shlex

import jax
import pytest

from tests.cli.command import (
    TOY,
    call,
    finish,
    inspect,
    metrics,
    start,
    steps_logged,
    succeed,
    train,
)

SMALL = {"steps": 12, "checkpoint_every": 2, "keep": 1}


def test_the_best_and_each_of_a_multiple_stay(tmp_path):
    """The toy's error falls, so that its highest is the first."""
    settings = SMALL | {"keep_best": "eval/error:max", "keep_every": 8}
    succeed(*train(TOY, tmp_path, **settings | {"steps": 6}))
    assert inspect(tmp_path)["checkpoints"] == [2, 6]
    succeed(*train(TOY, tmp_path, **settings))
    assert inspect(tmp_path)["checkpoints"] == [2, 8, 12]
    scored = [line["step"] for line in metrics(tmp_path) if "eval/error" in line]
    assert scored == [2, 4, 6, 8, 10, 12]


@pytest.mark.long
def test_the_first_checkpoint_at_or_after_each_multiple_stays(tmp_path):
    """Dispatches of three steps end at few multiples of five."""
    settings = {"steps": 30, "steps_per_call": 3, "checkpoint_every": 3, "keep": 1, "keep_every": 5}
    succeed(*train(TOY, tmp_path, **settings))
    assert inspect(tmp_path)["checkpoints"] == [6, 12, 15, 21, 27, 30]


def test_the_best_by_a_metric_of_training(tmp_path):
    succeed(*train(TOY, tmp_path, **SMALL, keep_best="fit/loss:max"))
    losses = {line["step"]: line["fit/loss"] for line in metrics(tmp_path) if "fit/loss" in line}
    best = max((step for step in losses if step % 2 == 0), key=losses.get)
    assert best < 12
    assert inspect(tmp_path)["checkpoints"] == [best, 12]


def test_the_best_by_a_metric_of_training_is_measured_at_its_step(tmp_path):
    """Though no line of the log is due there."""
    settings = SMALL | {"steps": 9, "checkpoint_every": 3, "log_every": 0}
    succeed(*train(TOY, tmp_path, **settings, keep_best="fit/loss:max"))
    assert steps_logged(tmp_path) == [3, 6, 9]
    losses = {line["step"]: line["fit/loss"] for line in metrics(tmp_path) if "fit/loss" in line}
    assert inspect(tmp_path)["checkpoints"] == [max(losses, key=losses.get), 9]


def test_a_metric_that_never_appears(tmp_path):
    settings = SMALL | {"keep_best": "eval/bleu:max"}
    sentence = call(*train(TOY, tmp_path, **settings)).refusal()
    assert "there is no metric eval/bleu, but eval/error, eval/error/absolute" in sentence
    assert inspect(tmp_path)["checkpoints"] == [2]
    succeed(*train(TOY, tmp_path, **settings | {"keep_best": "eval/error:max"}))
    assert steps_logged(tmp_path) == list(range(1, 13))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"keep_best": "eval/error"}, "is not METRIC:min or METRIC:max"),
        ({"keep_best": "other/loss:min"}, "nothing measures other/loss"),
        ({"keep": 0}, "config.keep=0 must be at least 1"),
        ({"keep_every": -1}, "config.keep_every=-1 must be at least 0"),
        ({"num_samples": -1}, "config.num_samples=-1 must be at least 0"),
        ({"steps": 0}, "config.steps=0 must be at least 1"),
        ({"batch_size": 0}, "config.batch_size=0 must be at least 1"),
        ({"accumulate": 0}, "config.accumulate=0 must be at least 1"),
        ({"steps_per_call": 0}, "config.steps_per_call=0 must be at least 1"),
        ({"eval_batch_size": 0}, "config.eval_batch_size=0 must be at least 1"),
        ({"log_every": -1}, "config.log_every=-1 must be at least 0"),
        ({"checkpoint_minutes": -1}, "config.checkpoint_minutes=-1.0 must be at least 0"),
        ({"profile": "5"}, "config.profile=5 is not FIRST:LAST"),
        ({"profile": "5:99"}, "two of the steps 1 to 12"),
        ({"profile": "²:3"}, "config.profile=²:3 is not FIRST:LAST"),
        ({"seed": -1}, "config.seed=-1 must be at least 0 and at most 4294967295"),
        ({"seed": 2**32}, "config.seed=4294967296 must be at least 0"),
        ({"seed": 99999999999999999999}, "config.seed=99999999999999999999 must be"),
    ],
)
def test_refused_before_anything_is_computed(settings, said, tmp_path):
    sentence = call(*train(TOY, tmp_path / "run", **SMALL | settings)).refusal()
    assert said in sentence
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_by_the_clock(tmp_path):
    """Every step takes longer than that."""
    settings = SMALL | {"steps": 4, "checkpoint_every": 0, "keep": 9, "checkpoint_minutes": 1e-9}
    succeed(*train(TOY, tmp_path, **settings))
    assert inspect(tmp_path)["checkpoints"] == [1, 2, 3, 4]


def test_a_trace(tmp_path):
    profile = jax.profiler.ProfileData
    succeed(*train(TOY, tmp_path, **SMALL, profile="3:4"))
    (path,) = (tmp_path / "profile").rglob("*.xplane.pb")
    events = [
        event.name
        for plane in profile.from_file(str(path)).planes
        for line in plane.lines
        for event in line.events
    ]
    assert any("split_step" in name for name in events)


def test_where_the_time_goes(tmp_path):
    succeed(*train(TOY, tmp_path, **SMALL))
    lines = [line for line in metrics(tmp_path) if "fit/loss" in line]
    for line in lines:
        parts = [line[f"time/{part}"] for part in ("input", "dispatch", "device")]
        assert min(parts) >= 0
        assert sum(parts) <= 1 / line["steps_per_second"]
    assert inspect(tmp_path)["seconds_to_first_step"] > 0


def test_what_a_finished_run_measured_stays(tmp_path):
    succeed(*train(TOY, tmp_path, **SMALL))
    before = json.loads((tmp_path / "run.json").read_text())
    assert {"flops_per_step", "matmul_peak", "seconds_to_first_step"} < set(before)
    succeed(*train(TOY, tmp_path, **SMALL))
    after = json.loads((tmp_path / "run.json").read_text())
    assert after == before | {"started": after["started"]}


@pytest.mark.long
def test_programs_are_kept_for_the_next_run(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("HOME", str(tmp_path))
    said = []
    for number, settings in enumerate(({}, {}, {"compile_cache": "false"})):
        workdir = tmp_path / f"run{number}"
        result = finish(start(*train(TOY, workdir, **SMALL, **settings), devices=1))
        assert result.code == 0, result.err
        said.append("(from the cache)" in result.out)
    assert said == [False, True, False]
    assert list((tmp_path / ".cache" / "genax" / "compiled").iterdir())
    digests = {inspect(tmp_path / f"run{number}")["digest"] for number in range(3)}
    assert len(digests) == 1


PROMPTED = f"""
from dataclasses import replace
from genax.front.experiments import load
toy = load({TOY!r}).module
DEFAULTS = toy.DEFAULTS

def build(config):
    experiment = toy.build(config)
    prompt = lambda text, num, workdir: {{}}
    samplers = {{"outputs": replace(experiment.task.samplers["outputs"], prompt=prompt)}}
    return replace(experiment, task=replace(experiment.task, samplers=samplers))
"""


def test_a_training_ends_with_its_samples_and_what_to_type_next(tmp_path):
    """The commands that it prints work as they are."""
    folder = tmp_path / "a run"
    *_, done, samples, draw, score = succeed(*train(TOY, folder, steps=2)).out.splitlines()
    assert done == f"done: step 2, samples and checkpoints in {folder}"
    path = folder / "samples" / "outputs_00000002.txt"
    assert samples == f"samples: {path}"
    assert path.exists()
    assert draw == f"next: genax sample '{folder}'"
    assert score == f"next: genax eval '{folder}'"
    for line in (draw, score):
        succeed(*shlex.split(line.removeprefix("next: genax ")))
    own = tmp_path / "own.py"
    own.write_text(PROMPTED)
    *_, draw, _ = succeed(*train(str(own), tmp_path / "b", steps=2, num_samples=0)).out.splitlines()
    assert draw == f'next: genax sample {tmp_path / "b"} --prompt "..."'
