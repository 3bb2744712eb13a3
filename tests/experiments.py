"""Experiment files as modules, for tests."""

from pathlib import Path

from genax.front.experiments import Definition
from genax.front.files import import_file

ROOT = Path(__file__).resolve().parents[1]


def load(path: str):
    """The module of an experiment, by its path in the repository."""
    return import_file(ROOT / path)


def config_of(module, variant):
    """The settings of an experiment's variant."""
    return Definition(Path(module.__file__), variant, module).config()
