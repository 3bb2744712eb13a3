"""Two processes over jax.distributed are one run."""

import signal

import jax
import numpy as np
import pytest

from genax.core.checkpoint import Checkpoints
from tests.cli.command import (
    TOY,
    finish,
    free_port,
    inspect,
    metrics,
    reached,
    start,
    steps_logged,
    succeed,
    timeless,
    train,
    wait_for,
)

VAE = "experiments/vae/vae.py:digits"
QUIET = {"log_every": 1, "sample_every": 0, "num_samples": 4, "batch_size": 16}


def start_two(*arguments):
    """The same command in two processes of two devices each."""
    address = f"localhost:{free_port()}"
    together = ("--coordinator", address, "--num-processes", 2, "--process-id")
    return [start(*arguments, *together, number, devices=2) for number in range(2)]


def finish_two(processes) -> list:
    """How both ended; a failure shows what both said."""
    return [finish(process) for process in processes]


def ended_well(results) -> None:
    assert [result.code for result in results] == [0, 0], [result.err for result in results]


def close(workdir, other) -> None:
    """Both folders hold the same parameters at the same step, up to rounding."""
    states = []
    for folder in (workdir, other):
        checkpoints = Checkpoints(folder, keep=None)
        states.append((checkpoints.steps[-1], checkpoints.arrays(checkpoints.steps[-1])))
    (step, leaves), (other_step, others) = states
    assert step == other_step
    assert set(leaves) == set(others)
    for path in leaves:
        if path.startswith(("params/", "ema/")):
            np.testing.assert_allclose(leaves[path], others[path], atol=1e-5, err_msg=path)


def same_metrics(workdir, other) -> None:
    assert steps_logged(workdir) == steps_logged(other)
    for mine, its in zip(metrics(workdir), metrics(other), strict=True):
        assert set(mine) == set(its)
        for name in timeless(mine):
            assert mine[name] == pytest.approx(its[name], rel=1e-4, abs=1e-5), name


def test_two_processes_match_one_and_one_goes_on(tmp_path):
    settings = QUIET | {"checkpoint_every": 4, "steps_per_call": 2}
    settings |= {"hidden": "(16,)", "importance_samples": 2, "eval_batch_size": 100}
    ended_well(finish_two(start_two(*train(VAE, tmp_path / "two", **settings, steps=8))))
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


@pytest.mark.parametrize("k", [1, 4])
def test_a_signal_to_one_stops_and_saves_both(k, tmp_path):
    """Whichever is told; the same command goes on, from where both were."""
    settings = QUIET | {"checkpoint_every": 20, "steps_per_call": k, "log_every": k}
    arguments = train(TOY, tmp_path / "two", **settings, steps=2000)
    processes = start_two(*arguments)
    wait_for(reached(tmp_path / "two", 22), processes[0], "step 22")
    processes[1].send_signal(signal.SIGTERM)
    results = finish_two(processes)
    assert [result.code for result in results] == [143, 143], [result.err for result in results]
    saved = inspect(tmp_path / "two")["step"]
    assert 22 <= saved < 2000
    assert saved % k == 0
    for result in results:
        assert f"saved at step {saved};" in result.out

    rest = train(TOY, tmp_path / "two", **settings, steps=saved + 8)
    ended_well(finish_two(start_two(*rest)))
    succeed(*train(TOY, tmp_path / "one", **settings, steps=saved + 8))
    close(tmp_path / "two", tmp_path / "one")


def test_two_processes_go_back_to_an_earlier_checkpoint(tmp_path):
    settings = QUIET | {"checkpoint_every": 4}
    ended_well(finish_two(start_two(*train(TOY, tmp_path / "two", **settings, steps=12))))
    back = train(TOY, tmp_path / "two", "--from-step", 4, **settings, steps=12)
    ended_well(finish_two(start_two(*back)))
    assert inspect(tmp_path / "two")["checkpoints"] == [4, 8, 12]
    succeed(*train(TOY, tmp_path / "one", **settings, steps=12))
    close(tmp_path / "two", tmp_path / "one")


def test_a_refusal_is_one_sentence_in_both(tmp_path):
    arguments = train(TOY, tmp_path, **QUIET | {"parallel__strategy": "pmap"}, steps=4)
    for result in finish_two(start_two(*arguments)):
        assert "use config.parallel.strategy=jit" in result.refusal()
