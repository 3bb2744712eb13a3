"""What goes wrong is said in one sentence, and nothing is overwritten."""

import hashlib
import json
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.command import (
    TOY,
    call,
    files,
    finish,
    inspect,
    metrics,
    reached,
    start,
    start_python,
    steps_logged,
    succeed,
    train,
    wait_for,
)

SMALL = {"steps": 8, "checkpoint_every": 4}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run with checkpoints of steps 4 and 8, not to be touched."""
    workdir = tmp_path_factory.mktemp("trained")
    succeed(*train(TOY, workdir, **SMALL))
    return workdir


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it that a test may damage."""
    return shutil.copytree(trained, tmp_path / "run")


def refused(workdir, *arguments) -> str:
    """The sentence with which a command is refused; the folder stays as it was."""
    before = files(workdir)
    sentence = call(*arguments).refusal()
    assert files(workdir) == before
    return sentence


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def emptied(content: bytes) -> bytes:
    return b""


def flipped(content: bytes) -> bytes:
    """One bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.long
@pytest.mark.parametrize("damage", [truncated, emptied, flipped, None])
def test_a_damaged_checkpoint_is_refused(damage, run):
    """Each of its files is damaged in turn, or removed if `damage` is None."""
    newest = run / "checkpoints" / "8"
    paths = [path for path in newest.rglob("*") if path.is_file() and path.stat().st_size]
    assert len(paths) >= 8
    for path in paths:
        if damage is None and path.name.startswith("checksums."):
            continue  # a checkpoint without any is one whose process was killed right after saving
        content = path.read_bytes()
        path.write_bytes(damage(content)) if damage else path.unlink()
        sentence = refused(run, *train(TOY, run, **SMALL | {"steps": 12}))
        assert f"{newest} is damaged" in sentence, path
        assert "add --from-step 4" in sentence, path
        path.write_bytes(content)
    assert inspect(run)["step"] == 8


def test_the_checkpoint_before_a_damaged_one_continues(run, trained):
    for path in (run / "checkpoints" / "8" / "state" / "d").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    for verb in ("inspect", "eval", "sample"):
        assert "is damaged" in refused(run, verb, run)
    result = succeed(*train(TOY, run, "--from-step", 4, **SMALL))
    assert "resuming at step 4" in result.out
    assert f"set aside {run}/set_aside/8" in result.out
    assert (run / "set_aside" / "8" / "state").is_dir()
    assert inspect(run)["digest"] == inspect(trained)["digest"]
    assert inspect(run)["checkpoints"] == [4, 8]
    assert steps_logged(run) == list(range(1, 9))


def test_a_damaged_only_checkpoint_never_starts_afresh(run):
    shutil.rmtree(run / "checkpoints" / "4")
    (run / "checkpoints" / "8" / "state" / "manifest.ocdbt").write_bytes(b"")
    sentence = refused(run, *train(TOY, run, **SMALL))
    assert "is damaged" in sentence
    assert "start in another workdir" in sentence


def test_an_unknown_step_to_go_back_to(run):
    assert "has no checkpoint of step 5" in refused(run, *train(TOY, run, "--from-step", 5))
    assert "has no checkpoint of step 5" in refused(run, "inspect", run, "--step", 5)


def test_a_checkpoint_whose_record_is_gone(run):
    """No checksums tell of it."""
    newest = run / "checkpoints" / "8"
    (newest / "checksums.process_0.json").unlink()
    (newest / "_CHECKPOINT_METADATA").unlink()
    verbs = [(verb, run) for verb in ("inspect", "eval", "sample")]
    for arguments in (train(TOY, run, **SMALL | {"steps": 12}), *verbs):
        sentence = refused(run, *arguments)
        assert f"{newest} is damaged (its record is missing)" in sentence
        assert "the one before is of step 4: add --from-step 4" in sentence


@pytest.mark.parametrize(
    ("content", "said"), [("[]", "holds no JSON object"), ("{}", "'experiment' is missing")]
)
def test_a_damaged_record_of_a_run(content, said, run):
    (run / "run.json").write_text(content)
    for verb in ("eval", "sample"):
        sentence = refused(run, verb, run)
        assert f"{run / 'run.json'}" in sentence
        assert said in sentence
    # The checkpoint has the record as well.
    succeed(*train(TOY, run, **SMALL))
    succeed("eval", run)


def test_steps_that_a_call_does_not_divide(run):
    succeed(*train(TOY, run, **SMALL | {"steps": 9}))
    sentence = refused(run, *train(TOY, run, **SMALL | {"steps": 12, "steps_per_call": 2}))
    assert "config.steps_per_call=2 does not divide the steps 9 to 12 that are left" in sentence


ON_A_FULL_DISK = """
import resource, sys
from genax.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, 1 << 14))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.long
def test_a_full_disk_while_saving(tmp_path):
    """A limit on the size of files stands for the disk; the small files of the run still fit."""
    settings = {"width": 1024, "checkpoint_every": 4, "log_every": 4}
    succeed(*train(TOY, tmp_path, **settings, steps=4))
    before = inspect(tmp_path)
    arguments = map(str, train(TOY, tmp_path, **settings, steps=12))
    result = finish(start_python([sys.executable, "-c", ON_A_FULL_DISK, *arguments]))
    sentence = result.refusal()
    assert "checkpoint of step 8 could not be saved" in sentence
    assert "the newest intact one is of step 4" in sentence
    after = inspect(tmp_path)
    assert (after["step"], after["digest"]) == (4, before["digest"])
    succeed(*train(TOY, tmp_path, **settings, steps=8))
    assert inspect(tmp_path)["checkpoints"] == [4, 8]


@pytest.mark.long
@pytest.mark.parametrize("size", ["1 << 14", "9000"])
def test_a_full_disk_while_logging(size, tmp_path):
    """TensorBoard's files outgrow the limit, or metrics.jsonl; checkpoints do not."""
    settings = {"checkpoint_every": 20, "steps": 80}
    arguments = map(str, train(TOY, tmp_path, **settings))
    script = ON_A_FULL_DISK.replace("1 << 14", size)
    result = finish(start_python([sys.executable, "-c", script, *arguments]))
    assert result.code == 1
    assert f"genax: nothing more can be written to {tmp_path}" in result.err
    assert inspect(tmp_path)["step"] % 20 == 0
    succeed(*train(TOY, tmp_path, **settings))
    assert steps_logged(tmp_path) == list(range(1, 81))


def test_the_folder_of_another_experiment(run, tmp_path):
    sentence = refused(run, *train(f"{TOY}:wide", run, **SMALL))
    assert "holds a run of toy.py:cpu, not of toy.py:wide" in sentence
    assert "choose another --workdir" in sentence
    other = tmp_path / "other.py"
    other.write_text("# another\n" + Path(TOY).read_text())
    assert "not of other.py:cpu" in refused(run, *train(str(other), run, **SMALL))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"batch_size": 32}, "batch_size: 16 -> 32"),
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"data__records": 64}, "data.records: 96 -> 64"),
    ],
)
def test_settings_that_would_change_the_order_of_the_data(settings, line, run):
    assert f"({line})" in refused(run, *train(TOY, run, **SMALL | settings))


def test_settings_that_would_change_the_model(run):
    sentence = refused(run, *train(TOY, run, **SMALL | {"width": 8}))
    assert "is of another model" in sentence
    assert "regressor/Dense_0/kernel is float32[8, 16], not float32[8, 8]" in sentence


def test_fewer_steps_than_there_are(run):
    sentence = refused(run, *train(TOY, run, **SMALL | {"steps": 4}))
    assert "is at step 8, beyond the 4 asked for" in sentence


def test_a_data_set_that_changed_under_a_run(tmp_path):
    table, workdir = tmp_path / "table.npy", tmp_path / "run"
    points = np.random.default_rng(0).standard_normal((96, 8)).astype(np.float32)
    np.save(table, points)
    succeed(*train(TOY, workdir, **SMALL | {"steps": 4}, table=table))
    points[5, 3] += 1
    np.save(table, points)
    sentence = refused(workdir, *train(TOY, workdir, **SMALL, table=table))
    assert "the data of the run" in sentence
    assert "has changed" in sentence


def test_a_batch_that_the_devices_do_not_divide(tmp_path):
    sentence = call(*train(TOY, tmp_path / "run", batch_size=18)).refusal()
    assert "config.batch_size=18 is not divisible by 4 batch shards" in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("k", [1, 2])
def test_a_loss_that_is_not_finite(k, tmp_path):
    """Record 86 is first read by step 6: 80 to 95 are the sixth batch of sixteen."""
    settings = SMALL | {"nan_record": 86, "steps_per_call": k}
    sentence = call(*train(TOY, tmp_path, **settings)).refusal()
    assert "phase 'fit' is not finite at step 6 (loss nan" in sentence
    found = tmp_path / "nonfinite.process0.json"
    assert str(found) in sentence
    assert json.loads(found.read_text())["records"] == list(range(80, 96))
    assert json.loads(found.read_text())["step"] == 6
    assert inspect(tmp_path)["checkpoints"] == [4]
    succeed("eval", tmp_path)


def test_an_error_while_reading_data_reaches_the_user(tmp_path):
    with pytest.raises(OSError, match="the disk with the points went away"):
        call(*train(TOY, tmp_path, **SMALL, fails_at=6))
    assert inspect(tmp_path)["checkpoints"] == [4]
    # Repaired, the same run goes on: what was read so far is as it was.
    succeed(*train(TOY, tmp_path, **SMALL | {"steps": 6}))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((TOY, "--config.lerning_rate=1"), "the closest is config.learning_rate"),
        ((TOY, "--config.data.record=1"), "the closest is config.data.records"),
        ((TOY, "--config.steps=many"), "config.steps=many: expected int"),
        ((TOY, "--config.steps=1.5"), "config.steps=1.5: expected int"),
        ((TOY, "--config.steps"), "--config.steps needs a value"),
        ((TOY, "--steps=3"), "unknown argument --steps"),
        ((TOY, "--config.steps_per_call=3"), "does not divide 40 steps"),
        ((TOY, "--config.parallel.strategy=xmap"), "is none of jit, pmap"),
        ((TOY, "--config.parallel.mesh=data=3"), "does not fit 4 device(s)"),
        ((f"{TOY}:huge",), "has no variant 'huge'; it has cpu, wide"),
        ((TOY, "--config.dtype=float31"), "config.dtype='float31' is none of float32, bfloat16"),
        (("nowhere.py",), "no experiment file nowhere.py"),
        ((__file__,), "has no DEFAULTS"),
        ((TOY, "--init-from", "nowhere"), "nowhere holds no checkpoints"),
        ((TOY, "--map", "params=params"), "--map says what --init-from DIR takes"),
        ((TOY, "--from-step", "3"), "has no checkpoint of step 3"),
        ((TOY, "--num-processes", "2", "--process-id", "0"), "need --coordinator HOST:PORT"),
        ((TOY, "--coordinator", "localhost"), "--coordinator localhost is not HOST:PORT"),
        (
            (TOY, "--distributed", "--heartbeat-seconds", "0"),
            "--heartbeat-seconds 0 must be at least",
        ),
        (("experiments/diffusion/ddpm.py:digits", "--config.eval_examples=-1"), "eval_examples=-1"),
    ],
)
def test_a_command_that_cannot_be_meant(arguments, said, tmp_path):
    experiment, *rest = arguments
    sentence = call(*train(experiment, tmp_path / "run", *rest)).refusal()
    assert said in sentence
    assert not (tmp_path / "run" / "run.json").exists()
    assert not list((tmp_path / "run").glob("checkpoints/*"))


@pytest.mark.parametrize("verb", ["sample", "eval", "inspect"])
def test_a_folder_without_a_run(verb, tmp_path):
    missing = tmp_path / "missing"
    assert str(missing) in call(verb, missing).refusal()
    assert not missing.exists()
    assert str(tmp_path) in refused(tmp_path, verb, tmp_path)


@pytest.fixture
def movable(tmp_path):
    """An experiment's file with a module beside it, and a run of it."""
    (tmp_path / "beside.py").write_text("nothing = None")
    experiment = tmp_path / "toy.py"
    experiment.write_text("from beside import nothing\n" + Path(TOY).read_text())
    succeed(*train(str(experiment), tmp_path / "run", **SMALL | {"steps": 4}))
    return experiment


@pytest.mark.long
def test_an_experiment_file_that_is_gone(movable):
    """The copy takes its place, but for older runs that have none."""
    workdir = movable.with_name("run")
    scores = succeed("eval", workdir, "--json").json
    movable.rename(movable.with_name("moved.py"))
    found = succeed("eval", workdir, "--json")
    assert found.json == scores
    assert f"{movable} is gone; the run's copy is used: {workdir}/experiment.py" in found.err
    moved = succeed("eval", workdir, "--json", "--experiment", movable.with_name("moved.py"))
    assert (moved.json, moved.err) == (scores, "")
    # It goes on with the moved file, or with the copy.
    beside = movable.with_name("beside.py")
    beside.rename(beside.with_name("elsewhere.py"))
    sys.modules.pop("beside", None)
    sentence = refused(workdir, "eval", workdir)
    assert f"imports 'beside', which is not there; put it into {beside.parent}" in sentence
    beside.with_name("elsewhere.py").rename(beside)
    for steps, file in ((6, movable.with_name("moved.py")), (8, workdir / "experiment.py")):
        out = succeed(*train(str(file), workdir, **SMALL | {"steps": steps})).out
        assert "resuming at step" in out
        assert "changed experiment" not in out
    (workdir / "experiment.py").unlink()
    movable.with_name("moved.py").unlink()
    sentence = refused(workdir, "eval", workdir)
    assert "is gone; put it back, or name it where it is now: --experiment FILE" in sentence


def test_an_experiment_file_that_changed(movable):
    """A sample is drawn by what was trained; training goes on with the file and says so."""
    workdir = movable.with_name("run")
    older = movable.read_text()
    scores = succeed("eval", workdir, "--json").json
    newer = older.replace("nn.tanh(nn.Dense", "nn.relu(nn.Dense")
    movable.write_text(newer)
    found = succeed("eval", workdir, "--json")
    assert found.json == scores
    assert f"{movable} has changed since; the run's copy is used" in found.err
    given = succeed("eval", workdir, "--json", "--experiment", movable)
    assert given.json["error"] != scores["error"]
    assert "is not what the run was trained with" in given.err
    out = succeed(*train(str(movable), workdir, **SMALL)).out
    kept = workdir / "experiment.00000004.py"
    assert f"changed experiment; the text before step 4 is kept in {kept}:" in out
    assert "-        hidden = nn.tanh(nn.Dense(self.width)(x))" in out
    assert "+        hidden = nn.relu(nn.Dense(self.width)(x))" in out
    assert kept.read_text() == older
    assert (workdir / "experiment.py").read_text() == newer
    digest = hashlib.sha256(newer.encode()).hexdigest()
    assert inspect(workdir)["experiment_sha256"] == digest
    # A checkpoint from before the change is read by what trained it.
    found = succeed("eval", workdir, "--step", 4, "--json")
    assert found.json == scores
    assert f"has changed since; the run's copy is used: {kept}" in found.err
    assert succeed("eval", workdir, "--json").err == ""
    # Also if it is the newest, since the changed one was killed.
    shutil.rmtree(workdir / "checkpoints" / "8")
    assert succeed("eval", workdir, "--json").json == scores


def test_a_run_at_its_end_keeps_what_trained_it(movable):
    workdir = movable.with_name("run")
    older = movable.read_text()
    digest = inspect(workdir)["experiment_sha256"]
    movable.write_text(older.replace("nn.tanh", "nn.relu"))
    out = succeed(*train(str(movable), workdir, **SMALL | {"steps": 4})).out
    assert "the experiment has changed: the end is shown and scored by the file" in out
    assert (workdir / "experiment.py").read_text() == older
    assert json.loads((workdir / "run.json").read_text())["experiment_sha256"] == digest


def test_the_log_of_a_killed_run_is_mended(run):
    """Lines beyond the checkpoint and half a line are written again, whole and once."""
    shutil.rmtree(run / "checkpoints" / "8")
    log = run / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 9, "fit/lo')
    succeed(*train(TOY, run, **SMALL))
    assert steps_logged(run) == list(range(1, 9))
    assert [line["step"] for line in metrics(run) if "eval/error" in line] == [8]


def test_scores_that_a_killed_run_did_not_come_to(run, trained):
    """It had just saved step 4, where an evaluation was due."""
    settings = SMALL | {"eval_every": 4}
    shutil.rmtree(run / "checkpoints" / "8")
    succeed(*train(TOY, run, **settings))
    scored = [line for line in metrics(run) if "eval/error" in line]
    assert [line["step"] for line in scored] == [4, 8]
    assert scored[0]["eval/error"] == pytest.approx(
        succeed("eval", run, "--step", 4, "--json").json["error"]
    )
    succeed(*train(TOY, run, "--from-step", 4, **settings))
    assert [line["step"] for line in metrics(run) if "eval/error" in line] == [4, 8]


def test_a_finished_run_is_left_as_it_is(run, trained):
    succeed(*train(TOY, run, **SMALL))
    assert metrics(run) == metrics(trained)
    assert inspect(run)["digest"] == inspect(trained)["digest"]


def test_a_finished_run_keeps_the_settings_that_it_used(run):
    before = json.loads((run / "run.json").read_text())
    out = succeed(*train(TOY, run, **SMALL | {"learning_rate": 0.5, "num_samples": 2})).out
    assert f"finished: all 8 steps were taken; {run}/run.json stays as it is" in out
    assert "not used, as nothing is trained: setting learning_rate: 0.01 -> 0.5" in out
    assert "resuming" not in out
    assert json.loads((run / "run.json").read_text()) == before


def test_a_run_keeps_the_history_of_its_starts(run):
    shutil.rmtree(run / "checkpoints" / "8")
    succeed(*train(TOY, run, **SMALL | {"learning_rate": 0.5}))
    succeed(*train(TOY, run, **SMALL | {"learning_rate": 0.5, "steps": 12}))
    record = json.loads((run / "run.json").read_text())
    assert [start["step"] for start in record["starts"]] == [0, 4, 8]
    assert [start["changed_settings"] for start in record["starts"]] == [
        [],
        ["learning_rate: 0.01 -> 0.5"],
        ["steps: 8 -> 12"],
    ]
    assert all(start["versions"] == record["versions"] for start in record["starts"])
    assert record["starts"][-1]["started"] == record["started"]
    assert record["config"]["learning_rate"] == 0.5


def test_a_start_that_came_to_no_checkpoint_stays_in_the_history(tmp_path):
    with pytest.raises(OSError, match="went away"):
        call(*train(TOY, tmp_path, **SMALL, fails_at=2))
    succeed(*train(TOY, tmp_path, **SMALL | {"learning_rate": 0.5}))
    starts = json.loads((tmp_path / "run.json").read_text())["starts"]
    assert [start["step"] for start in starts] == [0, 0]
    assert starts[1]["changed_settings"] == ["fails_at: 2 -> -1", "learning_rate: 0.01 -> 0.5"]


@pytest.mark.long
def test_two_runs_in_one_folder(tmp_path):
    arguments = train(TOY, tmp_path, **SMALL | {"steps": 4_000})
    process = start(*arguments)
    wait_for(reached(tmp_path, 5), process, "step 5")
    assert "another run is training" in call(*arguments).refusal()
    process.send_signal(signal.SIGKILL)
    finish(process)
