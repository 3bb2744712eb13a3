"""Several processes of one run, and two runs compared."""

import numpy as np
import pytest

from genax.running.checkpoint import Checkpoints
from tests.cli.command import (
    DEVICES,
    finish,
    free_port,
    metrics,
    start,
    steps_logged,
    timeless,
)


def start_many(count, *arguments):
    """The same command in processes that share the devices."""
    if count == 1:
        return [start(*arguments)]
    address = f"localhost:{free_port()}"
    together = ("--coordinator", address, "--num-processes", count, "--heartbeat-seconds", 10)
    return [
        start(*arguments, *together, "--process-id", number, devices=DEVICES // count)
        for number in range(count)
    ]


def finish_all(processes) -> list:
    """How all ended; a failure shows what they said."""
    return [finish(process) for process in processes]


def ended_well(results) -> None:
    assert {result.code for result in results} == {0}, [result.err for result in results]


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
            exact = 1e-5 if name.endswith("/loss") else 1e-4
            assert mine[name] == pytest.approx(its[name], rel=exact, abs=1e-5), name
