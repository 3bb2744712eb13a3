"""Experiments as files: found, loaded, configured, built."""

from __future__ import annotations

import importlib.util
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from genax.core import GenaxError, base_config, override
from genax.core.devices import make_strategy
from genax.core.record import read_run
from genax.core.run import Run


@dataclass(frozen=True)
class Loaded:
    """An experiment's module, with the variant chosen."""

    path: Path
    variant: str
    module: types.ModuleType

    def run(self, config: ConfigDict, workdir: Any, devices: Any = None) -> Run:
        """The experiment built with `config`, in a folder, on devices (None: all at hand)."""
        experiment = self.module.build(config)
        return Run(experiment, config.to_dict(), epath.Path(workdir), self.source, devices)

    @property
    def source(self) -> tuple[str, str]:
        """What a record names it by."""
        return str(self.path), self.variant


def roots() -> list[Path]:
    """Folders in which an experiment's relative path is looked for."""
    return [Path.cwd(), Path(__file__).resolve().parents[2]]


def load(name: str) -> Loaded:
    """Load "path/to/file.py" or "path/to/file.py:variant" (default: cpu, or the first there is)."""
    text, _, variant = name.partition(":")
    found = [root / text for root in roots() if (root / text).is_file()]
    if not found:
        raise GenaxError(f"no experiment file {text}; `genax list` shows those there are.")
    path = found[0].resolve()
    module = import_file(path)
    for needed in ("get_config", "build"):
        if not hasattr(module, needed):
            raise GenaxError(f"{path} has no function {needed}: it is not an experiment.")
    variants = list(getattr(module, "VARIANTS", {"cpu": ""}))
    variant = variant or ("cpu" if "cpu" in variants else variants[0])
    if variant not in variants:
        raise GenaxError(f"{text} has no variant {variant!r}; it has {', '.join(variants)}.")
    return Loaded(path, variant, module)


def import_file(path: Path) -> types.ModuleType:
    """The module of a Python file."""
    spec = importlib.util.spec_from_file_location(f"experiment_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise GenaxError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def configure(loaded: Loaded, settings: Mapping[str, str]) -> ConfigDict:
    """The variant's settings with those of the command line."""
    return override(loaded.module.get_config(loaded.variant), settings)


def reopen(workdir: str) -> Run:
    """The run in a folder, with the settings it was made with."""
    record = read_run(workdir)
    if record is None:
        raise GenaxError(f"{workdir} holds no run: it has no run.json.")
    path = Path(record["experiment"])
    if not path.is_file():
        raise GenaxError(f"the run's experiment file {path} is gone; put it back.")
    loaded = Loaded(path, record["variant"], import_file(path))
    config = ConfigDict(_tuples(record["config"]))
    try:
        make_strategy(config.parallel)
    except GenaxError:
        # It was trained on other devices than those at hand; any place will do to read it.
        config.parallel = base_config().parallel
    return loaded.run(config, workdir)


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
