"""Experiment files as modules, for tests."""

from pathlib import Path

from genax.cli.experiments import import_file

ROOT = Path(__file__).resolve().parents[1]


def load(path: str):
    """The module of an experiment, by its path in the repository."""
    return import_file(ROOT / path)
