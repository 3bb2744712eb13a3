"""Experiments hold their own numbers: little of one stands in another."""

from __future__ import annotations

from benchmarks.repetition import counted_lines, experiments, main, repeated_lines
from tests.test_experiments import FILES, each_file

MOST = 0.1
# Of a short file.
FEW = 5

ONE = '''"""A docstring
over two lines."""

from genax.settings import Variant

DEFAULTS = {
    # Why.
    "steps": 300,
    "size": 8,
}


def build(config):
    """Another docstring."""
    return [
        config
    ]
'''


def test_what_counts_as_a_line():
    lines = ["DEFAULTS = {", "# Why.", '"steps": 300,', '"size": 8,', "def build(config):"]
    assert counted_lines(ONE) == [*lines, "return [", "config"]


def test_what_counts_as_repeated():
    alone, together = ["# Why."], ["def build(config):", "return [", "config"]
    lines = {"one": counted_lines(ONE), "other": alone + together}
    assert repeated_lines(lines) == {"one": together, "other": together}
    assert repeated_lines({"one": lines["one"]}) == {"one": []}


@each_file
def test_at_most_a_tenth_stands_in_another_experiment(file):
    lines = experiments()
    assert sorted(lines) == FILES
    repeated = repeated_lines(lines)[file]
    assert len(repeated) <= max(FEW, MOST * len(lines[file])), "\n".join(repeated)


def test_the_command_prints_every_share(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["repetition"])
    main()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == FILES
