"""Directories of several models, as diffusers writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flax.linen as nn

from genax.core.errors import GenaxError
from genax.interop.pretrained import CONFIG, PIPELINE, find_architecture, read_config, read_model
from genax.interop.schedulers import SCHEDULER, Scheduler, load_scheduler
from genax.settings.files import read_json


def load_pipeline(
    directory: str | Path,
) -> tuple[dict[str, nn.Module | Scheduler], dict[str, dict[str, Any]]]:
    """Return the models and schedulers of a pipeline by their names, and the models' variables.

    parts[name].apply(variables[name], **inputs) runs a model as `load_pretrained` describes. The
    file model_index.json names the components, each a folder, and the class of each. A component
    is a model if its folder holds config.json, and a scheduler if it holds scheduler_config.json.
    The others (tokenizers, feature extractors) are left out and keep their settings in their
    folders.
    Raises GenaxError for a component of a class that is not supported before any weights are read,
    and otherwise as `load_pretrained` and `load_scheduler`.
    """
    directory = Path(directory)
    configs, schedulers = {}, {}
    for name, kind in _components(directory).items():
        try:
            # The pipeline decides on the class: the folder may hold more than this class reads.
            if (directory / name / CONFIG).is_file():
                configs[name] = read_config(directory / name) | {"architectures": [kind]}
                find_architecture(configs[name], directory / name)
            elif (directory / name / SCHEDULER).is_file():
                schedulers[name] = load_scheduler(directory / name, kind)
        except GenaxError as error:
            raise GenaxError(
                f"{error} To do without this part, set {name!r} to [null, null] in "
                f"{directory / PIPELINE}."
            ) from error
        if not (directory / name).is_dir():
            raise GenaxError(f"{directory / name} is missing, which {PIPELINE} names; fetch it.")
    loaded = {name: read_model(directory / name, config) for name, config in configs.items()}
    parts = {name: module for name, (module, _) in loaded.items()}
    return parts | schedulers, {name: variables for name, (_, variables) in loaded.items()}


def _components(directory: Path) -> dict[str, str]:
    """Return the class of each component that the pipeline has."""
    path = directory / PIPELINE
    if not path.is_file():
        raise GenaxError(
            f"{path} is missing: {directory} is no directory of several models; load_pretrained "
            "reads one of a single model."
        )
    found = {}
    for name, value in read_json(path).items():
        pair = isinstance(value, list) and len(value) == 2
        # All else is a setting of the pipeline, or nulls for a component that it does not have.
        if not pair or not all(isinstance(part, str) for part in value):
            continue
        if Path(name).name != name or name == "..":
            raise GenaxError(f"{path} names {name}, outside the directory.")
        found[name] = value[1]
    return found
