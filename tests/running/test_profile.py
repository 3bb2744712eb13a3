"""A trace of the steps asked for, and of no others."""

import pytest

from genax.core import GenaxError
from genax.running.profile import Profile, parse_steps


@pytest.mark.parametrize(
    "text", ["3", "a:b", "3:2", "0:2", "1:11", "1:2:3", "-1:2", ":", "²:3", "1:³"]
)
def test_what_are_no_steps(text):
    with pytest.raises(GenaxError, match=f"config.profile={text} is not FIRST:LAST.* 1 to 10 "):
        parse_steps(text, total=10)


def test_steps():
    assert parse_steps("", total=10) is None
    assert parse_steps("3:10", total=10) == (3, 10)


@pytest.mark.parametrize(
    ("steps", "begin", "k", "traced"),
    [
        ((3, 4), 0, 1, [3, 4]),
        ((3, 3), 0, 2, [4]),
        ((3, 6), 0, 4, [4, 8]),
        ((3, 5), 4, 1, [5]),  # resumed within them
        ((3, 5), 6, 1, []),
        (None, 0, 1, []),
    ],
)
def test_which_dispatches(steps, begin, k, traced, monkeypatch):
    """Named by the step after each."""
    running, found = [], []
    monkeypatch.setattr("jax.profiler.start_trace", running.append)
    monkeypatch.setattr("jax.profiler.stop_trace", running.clear)
    profile = Profile(steps, "folder")
    for step in range(begin, 8, k):
        profile.before(step, step + k)
        found += [step + k] if running else []
        profile.after(step + k, lambda: None)
    profile.close()
    assert found == traced
    assert not running
