"""Experiments before they are built: loaded, defined, configured, reopened with a run."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from genax.core import Experiment, GenaxError
from genax.core.devices import make_strategy
from genax.front.files import import_experiment, roots, source_of, variants_of
from genax.front.pretrained import check_network, check_parts, read_source, take
from genax.front.restore import steps_of
from genax.front.written import UnwrittenError, written
from genax.running.record import read_run
from genax.running.run import Run
from genax.running.source import COPY, find
from genax.running.source import digest as digest_of
from genax.settings import NetworkSettings, Variant, base_config
from genax.settings.config import RANGES
from genax.settings.flat import flat
from genax.settings.overrides import override
from genax.settings.ranges import Ranges, check_ranges


@dataclass(frozen=True)
class Definition:
    """An experiment before it is built: tables of settings and a function, with a variant chosen.

    path: of its file; None if it was defined in Python.
    module: has DEFAULTS and build, and may have VARIANTS and RANGES.
    text: Python that defines the same in a file of its own; None if there is none.
    """

    path: Path | None
    variant: str
    module: types.ModuleType
    text: str | None = None

    @property
    def DEFAULTS(self) -> Mapping[str, Any]:  # noqa: N802
        """The experiment's own settings with their defaults, as its file names them."""
        return self.module.DEFAULTS

    @property
    def VARIANTS(self) -> Mapping[str, Variant]:  # noqa: N802
        """What the experiment's variants change, by name."""
        return variants_of(self.module)

    @property
    def RANGES(self) -> Ranges:  # noqa: N802
        """What the experiment's own settings may be."""
        return getattr(self.module, "RANGES", {})

    @property
    def NETWORK(self) -> NetworkSettings | None:  # noqa: N802
        """Which settings describe the network, if the experiment takes pretrained weights."""
        return getattr(self.module, "NETWORK", None)

    @property
    def doc(self) -> str:
        """What the experiment says of itself."""
        return inspect.cleandoc(self.module.__doc__ or "")

    @property
    def source(self) -> tuple[str, str]:
        """What a record names it by."""
        return COPY if self.path is None else str(self.path), self.variant

    def as_python(self) -> str:
        """Return an expression that loads the experiment, where genax is imported."""
        if self.path is None:
            raise UnwrittenError("an experiment that was itself defined in Python is part of it")
        inside = [self.path.relative_to(r) for r in roots()[1:] if self.path.is_relative_to(r)]
        return f"genax.load({f'{[*inside, self.path][0]}:{self.variant}'!r})"

    def __str__(self) -> str:
        return ":".join(self.source)

    def __repr__(self) -> str:
        return f"<experiment {self}>"

    def config(self, changes: Mapping[str, Any] | None = None, **more: Any) -> ConfigDict:
        """Return the variant's settings, with changes.

        changes: values by dotted name, such as {"parallel.mesh": "data=2"}, or nested.
        more: the same as keywords.
        Raises GenaxError for a setting that is not there or a value of another type.
        """
        return configure(self, {**(changes or {}), **more})

    def build(self, config: ConfigDict, data: Any = None) -> Experiment:
        """Return the experiment that `config` describes.

        data: the training data, or a pair of it and that of the evaluation, in place of its own.
        Raises GenaxError for settings outside the ranges that the experiment and the loop declare.
        """
        check_ranges(flat(config), {**RANGES, **self.RANGES})
        given = {} if data is None else {"data": data}
        if given and "data" not in inspect.signature(self.module.build).parameters:
            raise GenaxError(
                f"build of {self} takes no data; write build(config, data=None), or replace the "
                "data of what it returns: experiment.replace(data=...)."
            )
        with _settings_told(self):
            experiment = self.module.build(config, **given)
        if not isinstance(experiment, Experiment):
            raise GenaxError(
                f"build of {self} returned {type(experiment).__name__}; it returns a "
                "genax.core.Experiment."
            )
        return experiment

    def run(self, config: ConfigDict, workdir: Any, devices: Any = None) -> Run:
        """Return the experiment built with `config`, in a folder, on devices (None: all)."""
        experiment, text = self.build(config), self.text
        if self.path is None:
            with contextlib.suppress(UnwrittenError):
                text = written(self.module)
        folder = epath.Path(workdir)
        return Run(experiment, config.to_dict(), folder, self.source, devices, text)


@contextlib.contextmanager
def _settings_told(definition: Definition) -> Iterator[None]:
    """Turn what the settings raise in `build` into a sentence; other errors stay as they are."""
    try:
        yield
    except (AttributeError, KeyError, TypeError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        if "ml_collections" not in Path(last.filename).parts:
            raise
        # It ends in `Did you mean "width" instead of "wdith"?` if there is a key like it.
        found = re.search(r"(?:instead of|Key|^)\W*['\"](\w+)['\"]", str(error))
        if isinstance(error, TypeError) or found is None:
            raise GenaxError(f"{definition} sets a setting to another type: {error}") from error
        raise GenaxError(
            f"{definition} sets or reads config.{found[1]}, which DEFAULTS lacks; add it there "
            "with its default."
        ) from error


def load(name: str | Path) -> Definition:
    """Load "path/to/file.py" or "path/to/file.py:variant" (default: cpu, or the first there is).

    A relative path is one from here, or from genax's own checkout.
    """
    text, _, variant = str(name).partition(":")
    found = [root / text for root in roots() if (root / text).is_file()]
    if not found:
        raise GenaxError(f"no experiment file {text}; `genax list` shows those there are.")
    path = found[0].resolve()
    content = source_of(path)
    module = import_experiment(path, content)
    return Definition(path, _chosen(module, variant, text), module, content)


def define(
    build: Callable[..., Experiment],
    DEFAULTS: Mapping[str, Any] | None = None,
    VARIANTS: Mapping[str, Variant] | None = None,
    RANGES: Ranges | None = None,
    variant: str = "",
) -> Definition:
    """Define an experiment without a file of its own, in a script or notebook.

    build, DEFAULTS, VARIANTS, RANGES: as an experiment's file has them.
    variant: cpu by default, or the first there is.
    """
    module = types.ModuleType("experiment", build.__doc__)
    tables = {"DEFAULTS": DEFAULTS or {}, "VARIANTS": VARIANTS, "RANGES": RANGES or {}}
    module.__dict__.update(tables, build=build)
    return Definition(None, _chosen(module, variant, COPY), module)


def definition_of(experiment: str | Path | Definition) -> Definition:
    """Return an experiment that may be given by its name."""
    return experiment if isinstance(experiment, Definition) else load(experiment)


def _chosen(module: types.ModuleType, variant: str, name: str) -> str:
    variants = list(variants_of(module))
    variant = variant or ("cpu" if "cpu" in variants else variants[0])
    if variant not in variants:
        raise GenaxError(f"{name} has no variant {variant!r}; it has {', '.join(variants)}.")
    return variant


def variant_settings(definition: Definition) -> ConfigDict:
    """Return the settings of the variant, over the experiment's own, over the loop's.

    Raises GenaxError for settings that do not fit each other.
    """
    try:
        config = base_config(**definition.DEFAULTS)
        settings = definition.VARIANTS[definition.variant].settings
        unknown = sorted(flat(settings).keys() - flat(config).keys())
        if unknown:
            raise GenaxError(
                f"{definition} sets {', '.join(unknown)}, which DEFAULTS lacks; add a default."
            )
        config.update(ConfigDict(settings))
    except (TypeError, AttributeError) as error:
        raise GenaxError(f"{definition} has a setting of the wrong type: {error}") from error
    return config


def configure(
    definition: Definition, settings: Mapping[str, Any], workdir: Any = None
) -> ConfigDict:
    """Return the variant's settings with others given as values or as texts.

    Sizes and tokenizer are those of `config.pretrained`, if that names weights.

    workdir: folder of the run. If the run began already, it has the sizes itself.
    Raises GenaxError for settings that differ from those of the weights.
    """
    config = override(variant_settings(definition), settings)
    folder = config.get("pretrained", "")
    declared = definition.NETWORK
    if not folder or declared is None:
        return config
    began = read_run(workdir) if workdir is not None and steps_of(workdir) else None
    resumed = began is not None and began["config"].get("pretrained") == folder
    if not resumed and "pretrained" not in settings and not epath.Path(folder).exists():
        return config  # What a variant names; training says that it is missing.
    source = read_source(workdir if resumed else folder, lambda run: reopen(run).task.networks)
    config = take(config, declared, source, settings)
    experiment = definition.build(config)
    check_network(experiment.task.networks, declared, source)
    check_parts(experiment, folder, source)
    return config


def reopen(
    workdir: epath.PathLike,
    settings: Mapping[str, Any] | None = None,
    experiment: str | Path | Definition | None = None,
    digest: str | None = None,
) -> Run:
    """Return the run in a folder, with the settings it was made with, or others.

    experiment: what it is a run of; None finds that by itself (see `_recorded`).
    digest: of the experiment's text, if an older one is wanted than that of the last start.
    Settings that the experiment did not have then get the values that its variant has now.
    """
    record = read_run(workdir)
    if record is None:
        raise GenaxError(
            f"{workdir} holds no run: it has no run.json. `genax train` makes one, and so does "
            "`genax import` for classes that genax has an experiment and a tokenizer for; others "
            "are read by --config.pretrained, --init-from and `genax export`."
        )
    if experiment is None:
        wanted = digest or record.get("experiment_sha256")
        definition = _recorded(record, epath.Path(workdir), wanted)
    else:
        definition = _given(experiment, record)
    known = _tuples(record["config"])
    if definition.variant in definition.VARIANTS:
        known = _completed(known, variant_settings(definition).to_dict())
    config = override(ConfigDict(known), settings or {})
    try:
        make_strategy(config.parallel)
    except GenaxError:
        if any(key.startswith("parallel") for key in settings or {}):
            raise
        # It was trained on other devices than those at hand; any place will do to read it.
        config.parallel = base_config().parallel
    return definition.run(config, workdir)


def _recorded(record: Mapping[str, Any], workdir: epath.Path, wanted: str | None) -> Definition:
    """Return what a run was trained with: its file, or the copy of it if that is no longer so.

    wanted: digest of the text; None takes the file as it is now.
    """
    path = Path(record["experiment"])
    own = record["experiment"] == COPY  # it never had another file
    text = source_of(path) if path.is_file() and not own else None
    place: epath.PathLike = path
    if text is None or (wanted and digest_of(text) != wanted):
        copy = find(workdir, wanted)
        if copy is not None:
            if not own:
                state = "is gone" if text is None else "has changed since"
                print(f"{path} {state}; the run's copy is used: {copy}", file=sys.stderr)
            place, text = copy, source_of(copy)
        elif own:
            raise GenaxError(
                f"the run in {workdir} was defined in Python, and its folder keeps no copy; give "
                "the experiment: genax.open(WORKDIR, experiment), or --experiment FILE."
            )
        elif text is None:
            raise GenaxError(
                f"the run's experiment file {path} is gone; put it back, or name it where it is "
                "now: --experiment FILE."
            )
        else:
            print(f"{path} has changed since, and the run has no copy of it.", file=sys.stderr)
    try:
        module = import_experiment(place, text, path.parent)
    except ModuleNotFoundError as error:
        raise GenaxError(
            f"{place} imports {error.name!r}, which is not there; put it into {path.parent} or on "
            "PYTHONPATH, or name the run's experiment where it is now: --experiment FILE."
        ) from error
    return Definition(path, record["variant"], module, text)


def _given(experiment: str | Path | Definition, record: Mapping[str, Any]) -> Definition:
    """Return an experiment that a user names in place of what the run was trained with."""
    if not isinstance(experiment, Definition) and ":" not in str(experiment):
        experiment = f"{experiment}:{record['variant']}"
    definition = definition_of(experiment)
    wanted = record.get("experiment_sha256")
    # What was defined in Python is the user's own to tell.
    if definition.text is not None and wanted and digest_of(definition.text) != wanted:
        print(f"{definition} is not what the run was trained with.", file=sys.stderr)
    return definition


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
