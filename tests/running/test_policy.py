"""Which checkpoints stay, and when the clock asks for one."""

from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from genax.core import GenaxError
from genax.core.devices import create, make_strategy
from genax.running.checkpoint import Checkpoints
from genax.running.policy import Best, Keep, Minutes, parse_best
from tests.core.toys import line_state, line_task

# Of steps 1 to 6; the best is neither new nor a multiple of anything.
ERRORS = {1: 0.5, 2: 0.1, 3: 0.9, 4: None, 5: 0.4, 6: 0.3}


def kept(workdir, keep):
    state = create(
        lambda: line_state(line_task()), make_strategy({"strategy": "jit", "mesh": "data=-1"})
    )
    checkpoints = Checkpoints(workdir, keep)
    for step, error in ERRORS.items():
        metrics = None if error is None else {"eval/error": error}
        checkpoints.save(state.replace(step=jnp.int32(step)), step, {}, metrics)
        if step == 4:  # a restart forgets nothing
            checkpoints.close()
            checkpoints = Checkpoints(workdir, keep)
    checkpoints.close()
    return Checkpoints(workdir, keep=None).steps


@pytest.mark.parametrize(
    ("keep", "steps"),
    [
        (Keep(1), [6]),
        (Keep(2, every=3), [3, 5, 6]),
        (Keep(1, every=4), [4, 6]),
        (Keep(1, best=Best("eval/error", lowest=True)), [2, 6]),
        (Keep(1, best=Best("eval/error", lowest=False)), [3, 6]),
        (Keep(1, every=5, best=Best("eval/error", lowest=True)), [2, 5, 6]),
    ],
)
def test_what_stays(keep, steps, tmp_path):
    assert kept(tmp_path, keep) == steps


def left(steps, every, newest=1):
    """Which steps stay where, after each save, the others are deleted."""
    policy, there = Keep(newest, every).policy(), []
    for step in steps:
        there.append(SimpleNamespace(step=step, metrics={}))
        stays = policy.should_preserve(there, context=None)
        there = [one for one, kept in zip(there, stays, strict=True) if kept]
    return [one.step for one in there]


@pytest.mark.parametrize(
    ("steps", "every", "stay"),
    [
        # Every tenth step by dispatches of three, and every fourth.
        ([12, 21, 30, 42, 51, 60], 10, [12, 21, 30, 42, 51, 60]),
        ([4, 8, 12, 16, 20, 24], 10, [12, 20, 24]),
        ([5, 10, 15, 20, 25, 30], 10, [10, 20, 30]),
        ([3, 7, 9], 10, [9]),
        ([35, 38], 10, [35, 38]),
    ],
)
def test_the_first_at_or_after_each_multiple_stays(steps, every, stay):
    assert left(steps, every) == stay


def test_a_metric_by_name():
    assert parse_best("") is None
    assert parse_best("eval/error:min") == Best("eval/error", lowest=True)
    assert parse_best("eval/bleu:max") == Best("eval/bleu", lowest=False)
    for wrong in ("eval/error", "error:min", "eval/error:least"):
        with pytest.raises(GenaxError, match="is not METRIC:min or METRIC:max"):
            parse_best(wrong)


def test_a_metric_that_is_not_there():
    best = parse_best("eval/bleu:max")
    best.check({"fit/loss": 1.0})  # not evaluated at this step
    assert best.of({"fit/loss": 1.0}) is None
    assert best.of({"eval/bleu": float("nan")}) is None
    assert best.of({"eval/bleu": 2.0, "eval/rouge": 1.0}) == {"eval/bleu": 2.0}
    with pytest.raises(GenaxError, match="no metric eval/bleu, but eval/rouge"):
        best.check({"eval/rouge": 1.0, "fit/loss": 1.0})


def test_minutes(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("genax.running.policy.time.monotonic", lambda: now[0])
    minutes, never = Minutes(2), Minutes(0)
    now[0] = 119
    assert not minutes.passed(log_step=True)
    now[0] = 120
    assert minutes.passed(log_step=False)
    assert not never.passed(log_step=True)
    minutes.restart()
    assert not minutes.passed(log_step=True)
