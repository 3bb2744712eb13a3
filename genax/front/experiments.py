"""Experiments as files: found, loaded, configured, built."""

from __future__ import annotations

import ast
import importlib.util
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from genax.core import Experiment, GenaxError
from genax.core.devices import make_strategy
from genax.core.tree import flat
from genax.front.pretrained import check_network, check_parts, read_source, take
from genax.front.restore import has_checkpoint
from genax.running.record import read_run
from genax.running.run import Run
from genax.settings import NetworkSettings, Variant, base_config
from genax.settings.config import RANGES
from genax.settings.overrides import override
from genax.settings.ranges import check_ranges


@dataclass(frozen=True)
class Loaded:
    """An experiment's module, with the variant chosen."""

    path: Path
    variant: str
    module: types.ModuleType

    def config(self) -> ConfigDict:
        """Return the settings of the variant, over the experiment's own, over the loop's.

        Raises GenaxError for settings that do not fit each other.
        """
        where = f"{self.path}:{self.variant}"
        try:
            config = base_config(**self.module.DEFAULTS)
            settings = variants_of(self.module)[self.variant].settings
            unknown = sorted(flat(settings).keys() - flat(config).keys())
            if unknown:
                raise GenaxError(
                    f"{where} sets {', '.join(unknown)}, which DEFAULTS lacks; add a default."
                )
            config.update(ConfigDict(settings))
        except (TypeError, AttributeError) as error:
            raise GenaxError(f"{where} has a setting of the wrong type: {error}") from error
        return config

    def build(self, config: ConfigDict) -> Experiment:
        """The experiment that `config` describes.

        Raises GenaxError for settings outside the ranges that the experiment and the loop declare.
        """
        check_ranges(flat(config), {**RANGES, **getattr(self.module, "RANGES", {})})
        experiment = self.module.build(config)
        if not isinstance(experiment, Experiment):
            raise GenaxError(
                f"build of {self.path} returned {type(experiment).__name__}; it returns a "
                "genax.core.Experiment."
            )
        return experiment

    def run(self, config: ConfigDict, workdir: Any, devices: Any = None) -> Run:
        """The experiment built with `config`, in a folder, on devices (None: all at hand)."""
        return Run(self.build(config), config.to_dict(), epath.Path(workdir), self.source, devices)

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
    module = import_experiment(path)
    variants = list(variants_of(module))
    variant = variant or ("cpu" if "cpu" in variants else variants[0])
    if variant not in variants:
        raise GenaxError(f"{text} has no variant {variant!r}; it has {', '.join(variants)}.")
    return Loaded(path, variant, module)


def import_experiment(path: Path) -> types.ModuleType:
    """Import an experiment's file. Raises GenaxError for one that is no experiment."""
    module = import_file(path)
    if hasattr(module, "get_config") and not hasattr(module, "DEFAULTS"):
        raise GenaxError(
            f"{path} has a get_config, which genax no longer calls; write DEFAULTS = {{...}} with "
            'its settings, and VARIANTS = {"NAME": Variant("what it is", {...})} with what each '
            "variant changes."
        )
    for needed in ("DEFAULTS", "build"):
        if not hasattr(module, needed):
            raise GenaxError(f"{path} has no {needed}: it is not an experiment.")
    return module


def variants_of(module: types.ModuleType) -> Mapping[str, Variant]:
    """Return the variants of an experiment by name; one without a table has the variant cpu."""
    variants = getattr(module, "VARIANTS", None) or {"cpu": Variant("the defaults")}
    for name, variant in variants.items():
        if not isinstance(variant, Variant):
            raise GenaxError(
                f"VARIANTS[{name!r}] of {module.__file__} is a {type(variant).__name__}; write "
                'genax.settings.Variant("what it is", {...}) with the settings that it changes.'
            )
    return variants


def import_file(path: Path) -> types.ModuleType:
    """The module of a Python file, which may import what lies beside it."""
    name = f"experiment_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise GenaxError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    # Dataclasses, and so Linen modules, look up their annotations there.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def is_experiment(path: Path) -> bool:
    """Return whether a file's text defines or imports `DEFAULTS` and `build`; none of it is run."""
    try:
        body = ast.parse(path.read_text()).body
    except (SyntaxError, ValueError):
        return False
    names = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    for node in body:
        if isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {
                inner.id
                for target in targets
                for inner in ast.walk(target)
                if isinstance(inner, ast.Name)
            }
    return {"DEFAULTS", "build"} <= names


def configure(loaded: Loaded, settings: Mapping[str, str], workdir: Any = None) -> ConfigDict:
    """Return the variant's settings with those of the command line.

    Sizes and tokenizer are those of `config.pretrained`, if that names weights.

    workdir: folder of the run. If the run began already, it has the sizes itself.
    Raises GenaxError for settings that differ from those of the weights.
    """
    config = override(loaded.config(), settings)
    folder = config.get("pretrained", "")
    declared: NetworkSettings | None = getattr(loaded.module, "NETWORK", None)
    if not folder or declared is None:
        return config
    began = read_run(workdir) if workdir is not None and has_checkpoint(workdir) else None
    resumed = began is not None and began["config"].get("pretrained") == folder
    if not resumed and "pretrained" not in settings and not epath.Path(folder).exists():
        return config  # What a variant names; training says that it is missing.
    source = read_source(workdir if resumed else folder, lambda run: reopen(run).task.networks)
    config = take(config, declared, source, settings)
    experiment = loaded.build(config)
    check_network(experiment.task.networks, declared, source)
    check_parts(experiment, folder, source)
    return config


def reopen(workdir: str, settings: Mapping[str, str] | None = None) -> Run:
    """The run in a folder, with the settings it was made with, or others of the command line.

    Settings that the experiment did not have then get the values that its variant has now.
    """
    record = read_run(workdir)
    if record is None:
        raise GenaxError(
            f"{workdir} holds no run: it has no run.json. `genax train` makes one, and so does "
            "`genax import` for classes that genax has an experiment and a tokenizer for; others "
            "are read by --config.pretrained, --init-from and `genax export`."
        )
    path = Path(record["experiment"])
    if not path.is_file():
        raise GenaxError(f"the run's experiment file {path} is gone; put it back.")
    loaded = Loaded(path, record["variant"], import_experiment(path))
    known = _tuples(record["config"])
    if loaded.variant in variants_of(loaded.module):
        known = _completed(known, loaded.config().to_dict())
    config = override(ConfigDict(known), settings or {})
    try:
        make_strategy(config.parallel)
    except GenaxError:
        if any(key.startswith("parallel.") for key in settings or {}):
            raise
        # It was trained on other devices than those at hand; any place will do to read it.
        config.parallel = base_config().parallel
    return loaded.run(config, workdir)


def _completed(known: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, with those of the defaults that they lack."""
    both = {
        key: _completed(value, defaults[key])
        if isinstance(value, dict) and isinstance(defaults.get(key), dict)
        else value
        for key, value in known.items()
    }
    return {**defaults, **both}


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
