"""Several processes over jax.distributed are one run, which outlives any of them."""

import signal
import sys
import time
from pathlib import Path

import jax
import pytest
from filelock import FileLock

from tests.cli.command import (
    TOY,
    finish,
    free_port,
    inspect,
    reached,
    start,
    start_python,
    succeed,
    train,
    wait_for,
)
from tests.cli.processes import close, ended_well, finish_all, same_metrics, start_many

pytestmark = pytest.mark.long

VAE = "experiments/vae/vae.py:digits"
LATENT = str(Path(__file__).with_name("latent.py"))
SLOW = str(Path(__file__).with_name("slow.py"))
QUIET = {"log_every": 1, "sample_every": 0, "num_samples": 4, "batch_size": 16}


def test_two_processes_match_one_and_one_goes_on(tmp_path):
    settings = QUIET | {"checkpoint_every": 4, "steps_per_call": 2}
    settings |= {"hidden": "(16,)", "importance_samples": 2, "eval_batch_size": 100}
    ended_well(finish_all(start_many(2, *train(VAE, tmp_path / "two", **settings, steps=8))))
    succeed(*train(VAE, tmp_path / "one", **settings, steps=8))
    assert inspect(tmp_path / "two")["device"] | {"processes": 0} == {
        "kind": "cpu",
        "platform": "cpu",
        "count": jax.device_count(),
        "processes": 0,
    }
    assert inspect(tmp_path / "two")["device"]["processes"] == 2
    close(tmp_path / "two", tmp_path / "one")
    same_metrics(tmp_path / "two", tmp_path / "one")

    for folder in ("two", "one"):
        succeed(*train(VAE, tmp_path / folder, **settings, steps=12))
    assert inspect(tmp_path / "two")["checkpoints"] == [4, 8, 12]
    close(tmp_path / "two", tmp_path / "one")
    same_metrics(tmp_path / "two", tmp_path / "one")


def test_a_signal_to_one_stops_and_saves_both(tmp_path):
    """Whichever is told; the same command goes on, from where both were."""
    settings = QUIET | {"checkpoint_every": 20, "steps_per_call": 4, "log_every": 4}
    arguments = train(TOY, tmp_path / "two", **settings, steps=2000)
    processes = start_many(2, *arguments)
    wait_for(reached(tmp_path / "two", 22), processes[0], "step 22")
    processes[1].send_signal(signal.SIGTERM)
    results = finish_all(processes)
    assert [result.code for result in results] == [143, 143], [result.err for result in results]
    saved = inspect(tmp_path / "two")["step"]
    assert 22 <= saved < 2000
    assert saved % 4 == 0
    for result in results:
        assert f"saved at step {saved};" in result.out

    rest = train(TOY, tmp_path / "two", **settings, steps=saved + 8)
    ended_well(finish_all(start_many(2, *rest)))
    succeed(*train(TOY, tmp_path / "one", **settings, steps=saved + 8))
    close(tmp_path / "two", tmp_path / "one")


def test_two_processes_go_back_to_an_earlier_checkpoint(tmp_path):
    # By the clock, which is looked at when they log: the same checkpoints as of every four steps.
    settings = QUIET | {"checkpoint_every": 0, "checkpoint_minutes": 1e-9, "log_every": 4}
    ended_well(finish_all(start_many(2, *train(TOY, tmp_path / "two", **settings, steps=12))))
    back = train(TOY, tmp_path / "two", "--from-step", 4, **settings, steps=12)
    ended_well(finish_all(start_many(2, *back)))
    assert inspect(tmp_path / "two")["checkpoints"] == [4, 8, 12]
    succeed(*train(TOY, tmp_path / "one", **settings, steps=12))
    close(tmp_path / "two", tmp_path / "one")


def test_a_refusal_is_one_sentence_in_both(tmp_path):
    arguments = train(TOY, tmp_path, **QUIET | {"parallel__strategy": "pmap"}, steps=4)
    for result in finish_all(start_many(2, *arguments)):
        assert "use config.parallel.strategy=jit" in result.refusal()


@pytest.mark.parametrize("mesh", ["data=2,tensor=2", "tensor=4"])
def test_processes_joined_by_an_axis_read_the_same_examples(mesh, tmp_path):
    settings = QUIET | {"steps": 8, "parallel__mesh": mesh}
    ended_well(finish_all(start_many(2, *train(TOY, tmp_path / "two", **settings))))
    succeed(*train(TOY, tmp_path / "one", **settings))
    close(tmp_path / "two", tmp_path / "one")
    same_metrics(tmp_path / "two", tmp_path / "one")


SCATTERED = """
import sys
import jax
from genax.front.experiments import Definition
from genax.cli.main import main
run = Definition.run
Definition.run = lambda self, *args: run(self, *args, [jax.devices()[i] for i in (0, 2, 3, 1)])
sys.exit(main(sys.argv[1:]))
"""


def test_examples_keep_their_noise_where_a_slice_scatters_them(tmp_path):
    """Over the devices of two processes, as on TPUs, where they lie by their places in a torus."""
    settings = QUIET | {"steps": 8, "steps_per_call": 2}
    together = ("--coordinator", f"localhost:{free_port()}", "--num-processes", 2)
    processes = []
    for number in (0, 1):
        several = (*together, "--process-id", number, "--heartbeat-seconds", 10)
        command = map(str, train(TOY, tmp_path / "two", *several, **settings))
        processes.append(start_python([sys.executable, "-c", SCATTERED, *command], devices=2))
    ended_well(finish_all(processes))
    succeed(*train(TOY, tmp_path / "one", **settings))
    close(tmp_path / "two", tmp_path / "one")
    same_metrics(tmp_path / "two", tmp_path / "one")


def test_a_folder_in_use_is_refused_in_both(tmp_path):
    with FileLock(str(tmp_path / "lock")):
        for result in finish_all(start_many(2, *train(TOY, tmp_path, **QUIET, steps=4))):
            assert f"another run is training in {tmp_path}" in result.refusal()


def test_processes_with_different_settings(tmp_path):
    address = f"localhost:{free_port()}"
    together = ("--coordinator", address, "--num-processes", 2, "--heartbeat-seconds", 10)
    processes = [
        start(
            *train(TOY, tmp_path, *together, "--process-id", number, **QUIET, seed=number),
            devices=2,
        )
        for number in (0, 1)
    ]
    for result in finish_all(processes):
        assert "the processes of this run differ in experiment, settings" in result.refusal()
    assert not list(tmp_path.iterdir())


def in_folders(folders, *arguments, **settings):
    """How the processes of one run ended, each with a folder of its own."""
    address = f"localhost:{free_port()}"
    together = ("--coordinator", address, "--num-processes", 2, "--heartbeat-seconds", 10)
    return finish_all(
        [
            start(
                *train(TOY, folder, *together, "--process-id", number, **QUIET | settings),
                devices=2,
            )
            for number, folder in enumerate(folders)
        ]
    )


def test_two_folders_are_refused_in_both(tmp_path):
    for result in in_folders((tmp_path / "first", tmp_path / "second"), steps=4):
        sentence = result.refusal()
        assert "the processes of this run do not share the folder" in sentence
        assert "process 1 does not see what process 0 writes there" in sentence
    assert not list(tmp_path.iterdir())


MEETING = """
import sys
from pathlib import Path
from genax.core import GenaxError
from genax.running import processes
folder, address, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
processes.connect(address, 2, number, 10, folder)
for first, second in (("used", "empty"), ("empty", "used"), ("used", "used"), ("new", "new")):
    try:
        processes.check_one_folder(folder / (second if number else first))
        print("one")
    except GenaxError as error:
        print("two" if "do not share the folder" in str(error) else error)
"""


def test_whether_two_folders_are_one(tmp_path):
    """The second empty, the first empty, both the same, both the same new one."""
    for name in ("used", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "used" / "run.json").write_text("{}")
    command = [sys.executable, "-c", MEETING, str(tmp_path), f"localhost:{free_port()}"]
    results = finish_all([start_python([*command, number], devices=1) for number in ("0", "1")])
    said = [[line for line in result.out.splitlines() if len(line) == 3] for result in results]
    assert said == [["two", "two", "one", "one"]] * 2, results
    assert {path.name for path in tmp_path.rglob("*")} == {"used", "empty", "new", "run.json"}


def test_four_processes_then_two_then_one(tmp_path):
    """Each with the same global batch, in the same order."""
    settings = QUIET | {"checkpoint_every": 4, "eval_every": 4, "first_stage": 6}
    for count, steps in ((4, 4), (2, 8)):
        arguments = train(TOY, tmp_path / "many", **settings, steps=steps)
        ended_well(finish_all(start_many(count, *arguments)))
        assert inspect(tmp_path / "many")["device"]["processes"] == count
    for folder in ("many", "one"):
        succeed(*train(TOY, tmp_path / folder, **settings, steps=12))
    close(tmp_path / "many", tmp_path / "one")
    same_metrics(tmp_path / "many", tmp_path / "one")


@pytest.mark.parametrize(
    ("count", "moment"), [(2, "eval"), (2, "sample"), (2, "run.json"), (1, "eval"), (1, "run.json")]
)
def test_a_signal_is_never_lost(count, moment, tmp_path):
    """While evaluating, sampling, or compiling (run.json is there just before)."""
    settings = QUIET | {"sample_every": 3, "eval_every": 5, "checkpoint_every": 0}
    arguments = train(SLOW, tmp_path, **settings, steps=2000)
    processes = start_many(count, *arguments)
    wait_for((tmp_path / moment).exists, processes[0], moment)
    processes[-1].send_signal(signal.SIGTERM)
    results = finish_all(processes)
    assert {result.code for result in results} == {143}, [result.err for result in results]
    if moment == "run.json" and not list(tmp_path.glob("checkpoints/*")):
        assert "interrupted before the first step" in results[0].out
        return
    step = inspect(tmp_path)["step"]
    assert step < 10
    for result in results:
        assert f"saved at step {step};" in result.out


@pytest.mark.parametrize(("moment", "victim"), [("training", 0), ("saving", 1)])
def test_a_process_that_dies_ends_the_others(moment, victim, tmp_path):
    """With a sentence, soon; the same command goes on as if nothing had been."""
    settings = QUIET | {"checkpoint_every": 20, "width": 512}
    processes = start_many(2, *train(TOY, tmp_path / "two", **settings, steps=2000))
    wait_for(reached(tmp_path / "two", 30), processes[0], "step 30")
    if moment == "saving":
        unfinished = (tmp_path / "two" / "checkpoints").glob
        wait_for(lambda: list(unfinished("*tmp*")), processes[0], "a save")
    processes[victim].kill()
    began = time.monotonic()
    left = finish(processes[1 - victim])
    assert time.monotonic() - began < 40
    finish(processes[victim])
    newest = inspect(tmp_path / "two")["step"]
    assert "another process of this run ended" in left.refusal()
    assert f"run the same command on all to resume from step {newest}." in left.refusal()

    steps = newest + 20
    if moment == "training":
        ended_well(
            finish_all(start_many(2, *train(TOY, tmp_path / "two", **settings, steps=steps)))
        )
    else:
        succeed(*train(TOY, tmp_path / "two", **settings, steps=steps))
    succeed(*train(TOY, tmp_path / "one", **settings, steps=steps))
    close(tmp_path / "two", tmp_path / "one")
    same_metrics(tmp_path / "two", tmp_path / "one")


def test_an_error_in_one_ends_both(tmp_path):
    """Which waits for the other as long as for one that is silent."""
    settings = QUIET | {"checkpoint_every": 20, "steps": 2000, "fails_at": 30, "fails_in": 1}
    address = f"localhost:{free_port()}"
    together = ("--coordinator", address, "--num-processes", 2, "--heartbeat-seconds", 10)
    processes = [
        start(
            *train(TOY, tmp_path, *together, "--process-id", number, **settings),
            devices=2,
        )
        for number in range(2)
    ]
    whole, failed = finish_all(processes)
    assert "OSError: the disk with the points went away" in failed.err
    assert failed.code == 1
    assert "another process of this run ended" in whole.refusal()
    assert inspect(tmp_path)["step"] == 20


def test_two_processes_keep_what_is_fixed_in_parts(tmp_path):
    """Each has a half of it; one process reads the whole, and both go on from there."""
    settings = QUIET | {"checkpoint_every": 4, "parallel__mesh": "fsdp=4", "eval_batch_size": 100}
    source = {"hidden": "(16,)", "latent_size": 4, "importance_samples": 1, "steps_per_call": 1}
    succeed(*train(VAE, tmp_path / "vae", **QUIET | source, steps=1))
    settings |= {"autoencoder": tmp_path / "vae"}
    ended_well(finish_all(start_many(2, *train(LATENT, tmp_path / "two", **settings, steps=4))))
    succeed(*train(LATENT, tmp_path / "one", **settings, steps=4))
    assert inspect(tmp_path / "two")["fixed"] == inspect(tmp_path / "one")["fixed"]
    written = tmp_path / "two" / "fixed" / "checksums.process_1.json"
    assert '"state/' in written.read_text()

    rest = train(LATENT, tmp_path / "two", **settings, steps=8)
    ended_well(finish_all(start_many(2, *rest)))
    succeed(*train(LATENT, tmp_path / "one", **settings, steps=8))
    close(tmp_path / "two", tmp_path / "one")
    succeed("eval", tmp_path / "two")
