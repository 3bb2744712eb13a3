"""Killed and resumed, a run is the run that was never interrupted."""

import random
import signal
import sys
import time
from pathlib import Path

import jax
import pytest

from genax.core import tree
from genax.front.experiments import reopen
from genax.running.checkpoint import Checkpoints
from tests.cli.command import (
    TOY,
    finish,
    inspect,
    metrics,
    reached,
    start,
    start_python,
    steps_logged,
    succeed,
    timeless,
    train,
    wait_for,
)

QUIET = {"log_every": 1, "steps_per_call": 1, "sample_every": 0, "eval_every": 0, "num_samples": 4}
FOUR_AT_ONCE = {"steps_per_call": 4, "log_every": 4}
# Path, settings that make it small, and the steps of the whole run.
TASKS = {
    "toy": (TOY, {"checkpoint_every": 20}, 160),
    "stages": (TOY, {"checkpoint_every": 20, "first_stage": 80} | FOUR_AT_ONCE, 120),
    "vae": (
        "experiments/vae/vae.py:digits",
        {"checkpoint_every": 20, "batch_size": 32, "hidden": "(16,)", "importance_samples": 2},
        100,
    ),
    "gpt": (
        "experiments/transformer/gpt.py:stdlib",
        {"checkpoint_every": 4, "hidden_size": 16, "num_layers": 1, "context": 16}
        | {"batch_size": 8, "evaluation_windows": 8, "eval_batch_size": 8},
        24,
    ),
    "ddpm": (
        "experiments/diffusion/ddpm.py:digits",
        {"checkpoint_every": 6, "batch_size": 8, "unet__channels": 8, "unet__multipliers": "(1,)"}
        | {"unet__num_groups": 4, "unet__attention_resolutions": "(8,)"}
        | {"test_split": "", "num_timesteps": 20, "num_samples": 0},
        18,
    ),
    "dcgan": (
        "experiments/gan/dcgan.py:digits",
        {"checkpoint_every": 4, "batch_size": 8, "width": 4, "coverage_samples": 0},
        24,
    ),
}


def command(name: str, workdir: Path) -> tuple:
    path, settings, steps = TASKS[name]
    return train(path, workdir, **QUIET | settings, steps=steps)


def moment(name: str) -> int:
    """A step after the first checkpoint, well before the end; the same in every test run."""
    _, settings, steps = TASKS[name]
    if stage := settings.get("first_stage"):
        span = range(stage - 8, stage + 8)
    else:
        span = range(settings["checkpoint_every"] + 1, steps // 2)
    step = random.Random(name).choice(span)
    print(f"{name}: interrupted once it has logged step {step}")
    return step


def interrupted(arguments: tuple, workdir: Path, step: int, number: int):
    """How a process ended that got a signal while training, at `step` or soon after."""
    process = start(*arguments)
    wait_for(reached(workdir, step), process, f"step {step}")
    time.sleep(random.Random(step).uniform(0, 0.05))
    process.send_signal(number)
    return finish(process)


def same_run(workdir: Path, whole: Path) -> None:
    """Nothing tells the two runs apart: state, position in the data, log."""
    resumed, never = inspect(workdir), inspect(whole)
    for fact in ("step", "digest", "params_digest", "config", "checkpoints"):
        assert resumed[fact] == never[fact], fact
    step = never["step"]
    assert position(workdir, step) == position(whole, step)
    assert steps_logged(workdir) == steps_logged(whole)
    for mine, other in zip(metrics(workdir), metrics(whole), strict=True):
        assert timeless(mine) == timeless(other)


def position(workdir: Path, step: int):
    return Checkpoints(workdir, keep=None).record(step)["position"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder of the uninterrupted run of a task."""
    found = {}

    def run(name: str) -> Path:
        if name not in found:
            workdir = tmp_path_factory.mktemp(name)
            succeed(*command(name, workdir))
            found[name] = workdir
        return found[name]

    return run


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in TASKS if name != "toy"])
def test_killed_and_resumed(name, tmp_path, whole):
    arguments = command(name, tmp_path)
    assert interrupted(arguments, tmp_path, moment(name), signal.SIGKILL).code == -signal.SIGKILL
    result = succeed(*arguments)
    assert "resuming at step" in result.out
    same_run(tmp_path, whole(name))


@pytest.mark.long
def test_killed_again_and_again(tmp_path, whole):
    """Before the first checkpoint, while training and while saving."""
    arguments = command("toy", tmp_path)
    process = start(*arguments)
    wait_for(lambda: metrics(tmp_path), process, "a first step")
    process.kill()
    assert finish(process).code == -signal.SIGKILL
    assert interrupted(arguments, tmp_path, moment("toy"), signal.SIGKILL).code == -signal.SIGKILL
    succeed(*arguments)
    same_run(tmp_path, whole("toy"))


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_saves_and_resumes(number, tmp_path, whole):
    arguments = command("toy", tmp_path)
    result = interrupted(arguments, tmp_path, moment("toy"), number)
    assert result.code == 128 + number
    assert "the same command resumes it" in result.out
    saved = inspect(tmp_path)["step"]
    assert f"interrupted: saved at step {saved};" in result.out
    # It saved the step it was at, not the last one that was due.
    assert steps_logged(tmp_path)[-1] == saved
    assert f"resuming at step {saved}" in succeed(*arguments).out
    resumed, never = inspect(tmp_path), inspect(whole("toy"))
    assert resumed["digest"] == never["digest"]
    assert steps_logged(tmp_path) == steps_logged(whole("toy"))


@pytest.mark.parametrize("stop", [pytest.param(76, marks=pytest.mark.long), 80])
def test_stops_and_goes_on_around_the_end_of_a_stage(stop, tmp_path, whole):
    """The stage that plays is the one whose optimizers the checkpoint holds.

    Up to there with one step a call, then with four: that changes nothing either.
    """
    path, settings, _ = TASKS["stages"]
    succeed(*train(path, tmp_path, **QUIET | settings | {"steps_per_call": 1}, steps=stop))
    assert set(_restored(tmp_path).opt_state) == ({"warm"} if stop < 80 else {"fit", "polish"})
    succeed(*command("stages", tmp_path))
    assert inspect(tmp_path)["digest"] == inspect(whole("stages"))["digest"]


def _restored(workdir: Path):
    """The state that training in a folder would go on from, on this process's devices."""
    run = reopen(str(workdir))
    checkpoints = Checkpoints(workdir, keep=None)
    step = checkpoints.steps[-1]
    return checkpoints.restore(step, run.abstract(run.task.stage_at(step)[0]))


def _params_digest(state) -> str:
    return tree.digest({"params": state.params})


@pytest.mark.long
def test_from_one_device_to_four(tmp_path):
    result = finish(start(*train(TOY, tmp_path, **QUIET, steps=20), devices=1))
    assert result.code == 0, result.err
    before = inspect(tmp_path)
    assert before["device"]["count"] == 1
    state = _restored(tmp_path)
    assert len(state.params["regressor"]["Dense_0"]["kernel"].devices()) == jax.device_count() == 4
    assert _params_digest(state) == before["params_digest"]
    succeed(*train(TOY, tmp_path, **QUIET, steps=30))
    assert inspect(tmp_path)["device"]["count"] == 4
    assert inspect(tmp_path)["step"] == 30


ON_ONE_DEVICE = """
import sys
import jax
from tests.cli.test_resume import _params_digest, _restored
from genax.cli.main import main
assert jax.device_count() == 1
print(_params_digest(_restored(sys.argv[1])))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.long
def test_from_four_sharded_devices_to_one(tmp_path):
    mesh = {"parallel__mesh": "data=2,fsdp=2"}
    succeed(*train(TOY, tmp_path, **QUIET | mesh, steps=20))
    before = inspect(tmp_path)
    kernel = _restored(tmp_path).params["regressor"]["Dense_0"]["kernel"]
    assert not kernel.sharding.is_fully_replicated
    arguments = map(str, (tmp_path, *train(TOY, tmp_path, **QUIET, steps=30)))
    result = finish(start_python([sys.executable, "-c", ON_ONE_DEVICE, *arguments], devices=1))
    assert result.code == 0, result.err
    assert result.out.splitlines()[0] == before["params_digest"]
    assert "changed setting parallel.mesh: data=2,fsdp=2 -> data=-1,fsdp=1,tensor=1" in result.out
    after = inspect(tmp_path)
    assert (after["step"], after["device"]["count"]) == (30, 1)
    assert after["params_digest"] != before["params_digest"]
