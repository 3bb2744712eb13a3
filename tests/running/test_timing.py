"""The parts of a step's time."""

from genax.running.timing import Times


def test_seconds_a_step(monkeypatch):
    clock = iter([0.0, 1.0, 10.0, 13.0, 20.0, 22.0])
    monkeypatch.setattr("genax.running.timing.time.perf_counter", lambda: next(clock))
    times = Times()
    for part in ("input", "device", "device"):
        with times.spent(part):
            pass
    assert times.take(steps=2) == {"time/input": 0.5, "time/dispatch": 0.0, "time/device": 2.5}
    assert set(times.take(steps=1).values()) == {0.0}
