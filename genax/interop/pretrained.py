"""Directories of config.json and safetensors, read and written without running what they hold."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from genax.core import tree
from genax.core.errors import GenaxError
from genax.interop.architecture import Architecture, Config
from genax.interop.configuration import Configuration
from genax.interop.families import ARCHITECTURES
from genax.interop.tensors import STEMS, Tensors, weights
from genax.settings.files import read_json, to_json

CONFIG, PIPELINE = "config.json", "model_index.json"


def load_pretrained(directory: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the model of a Hugging Face directory and its variables, float32.

    module.apply(variables, **inputs) takes the inputs under their Hugging Face names (images with
    channels last) and returns the outputs under theirs. The directory holds config.json and
    model.safetensors (transformers) or diffusion_pytorch_model.safetensors (diffusers), or its
    shards and their index. Tensors may have the names of older files.
    Raises GenaxError, before anything is computed, for an architecture or a setting that is not
    supported, for missing or surplus tensors or ones of another shape, and for damaged files.
    Warns of parts that the directory has but the architecture does not.
    """
    directory = Path(directory)
    return read_model(directory, read_config(directory))


def read_config(directory: Path) -> Config:
    """Return the content of a directory's config.json.

    Raises GenaxError if it is missing or holds no JSON object.
    """
    path = directory / CONFIG
    if not path.is_file():
        if (directory / PIPELINE).is_file():
            raise GenaxError(
                f"{path} is missing: {directory} holds several models; name the folder of one of "
                "them, or read all with load_pipeline."
            )
        raise GenaxError(f"{path} is missing: {directory} is no Hugging Face directory.")
    return read_json(path)


def read_model(directory: Path, config: Config) -> tuple[nn.Module, dict[str, Any]]:
    """Return the model that a configuration describes and its variables, read from a directory.

    Raises GenaxError and warns as `load_pretrained`.
    """
    name, architecture = find_architecture(config, directory)
    tensors = Tensors(directory, architecture.copies, architecture.renames)
    module = build_model(config, directory / CONFIG, set(tensors.places))
    conversions, fixed = architecture.conversions(module), architecture.fixed(module)
    wanted = {name for conversion in conversions for name in conversion.names}
    tensors.fill_in(wanted)
    _check_names(directory, architecture, wanted, set(tensors.places) - set(fixed))
    shapes = _shapes(module, architecture, directory / CONFIG)

    variables = {}
    for conversion in conversions:
        shape = shapes[conversion.path].shape
        found = [tensors.read(tensor) for tensor in conversion.names]
        expected = conversion.write(np.broadcast_to(np.float32(0), shape))
        for tensor, array, like in zip(conversion.names, found, expected, strict=True):
            if array.shape != like.shape:
                raise GenaxError(
                    f"{directory}: tensor {tensor} has shape {list(array.shape)}, but {CONFIG} "
                    f"makes it {list(like.shape)}."
                )
        try:
            variables[conversion.path] = jnp.asarray(conversion.read(found, shape))
        except GenaxError as error:
            raise GenaxError(f"{directory}: {error}") from error
    _check_values(directory, architecture, tensors, wanted, fixed)
    unread = sorted(_matching(architecture.unread, tensors.places))
    if unread:
        warnings.warn(f"{directory}: {name} has no {', '.join(unread)}; left out.", stacklevel=3)
    return module, tree.nest(variables)


def export_pretrained(
    config: Mapping[str, Any], variables: Mapping[str, Any], directory: str | Path
) -> None:
    """Write a model's variables as a Hugging Face directory, which its library loads.

    config: the content of config.json, with "architectures" (transformers) or "_class_name"
      (diffusers).
    variables: of that class, as `load_pretrained` returns them.
    Raises GenaxError if the variables do not fit the configuration or the directory is not empty.
    """
    directory = Path(directory)
    if directory.exists() and any(directory.iterdir()):
        raise GenaxError(f"{directory} is not empty; choose another directory.")
    tensors = to_tensors(config, variables)
    directory.mkdir(parents=True, exist_ok=True)
    stem = STEMS[0] if "architectures" in config else STEMS[1]
    save_file(tensors, directory / weights(stem), metadata={"format": "pt"})
    (directory / CONFIG).write_text(to_json(dict(config), indent=2, sort_keys=True) + "\n")


def to_tensors(config: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return a model's variables as the tensors of its class, by name.

    config, variables: see `export_pretrained`.
    Raises GenaxError if the variables do not fit the configuration.
    """
    _, architecture = find_architecture(config, CONFIG)
    leaves = tree.flatten(dict(variables))
    module = build_model(config, CONFIG, set(leaves))
    shapes = _shapes(module, architecture, CONFIG)
    wrong = sorted(set(leaves) ^ set(shapes))
    wrong += [
        path for path in set(leaves) & set(shapes) if leaves[path].shape != shapes[path].shape
    ]
    if wrong:
        raise GenaxError(f"the variables do not fit {CONFIG}: {', '.join(wrong[:10])}.")
    tensors = {}
    for conversion in architecture.conversions(module):
        written = conversion.write(np.asarray(leaves[conversion.path]))
        for name, array in zip(conversion.names, written, strict=True):
            tensors[name] = np.asarray(array, order="C")
    return tensors


def build_model(config: Mapping[str, Any], source: str | Path, names: set[str]) -> nn.Module:
    """Return the model that a config.json describes.

    source: the name of the file in errors.
    names: of the tensors or of the variables.
    Raises GenaxError for what is not supported.
    """
    name, architecture = find_architecture(config, source)
    settings = Configuration(config, str(source))
    module = architecture.build(name, settings, names)
    settings.done()
    return module


def find_architecture(config: Mapping[str, Any], source: str | Path) -> tuple[str, Architecture]:
    """Return the class that a config.json names, by transformers' field or by diffusers'.

    source: what errors name.
    Raises GenaxError for a class that is missing or not supported.
    """
    found = config.get("architectures") or config.get("_class_name")
    if not found:
        raise GenaxError(
            f'{source} does not say what its weights are of: add a field "architectures" with a '
            f"list of one, which is supported if among {', '.join(ARCHITECTURES)}."
        )
    name = found[0] if isinstance(found, list) and len(found) == 1 else found
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise GenaxError(
            f"{source} is of architecture {name}; the supported ones are "
            f"{', '.join(ARCHITECTURES)}."
        )
    return name, ARCHITECTURES[name]


def _shapes(
    module: nn.Module, architecture: Architecture, source: str | Path
) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shape of each variable.

    source: what errors of the model's sizes name.
    """
    init: Any = module.init
    make = lambda: init(jax.random.key(0), **architecture.inputs(module))  # noqa: E731
    try:
        return tree.flatten(jax.eval_shape(make))
    except GenaxError as error:
        raise GenaxError(f"{source} makes no model: {error}") from error


def _matching(patterns: Iterable[str], names: Iterable[str]) -> set[str]:
    return {name for name in names if any(re.fullmatch(pattern, name) for pattern in patterns)}


def _check_names(
    directory: Path, architecture: Architecture, wanted: set[str], found: set[str]
) -> None:
    surplus = found - wanted - set(architecture.copies)
    surplus -= _matching((*architecture.buffers, *architecture.unread), surplus)
    lines = []
    for what, names in (("lacks", wanted - found), ("has surplus", surplus)):
        if names:
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            lines.append(f"{what} {', '.join(sorted(names)[:10])}{more}")
    if lines:
        raise GenaxError(f"{directory} {'; it '.join(lines)}.")


def _check_values(
    directory: Path,
    architecture: Architecture,
    tensors: Tensors,
    wanted: set[str],
    fixed: Mapping[str, np.ndarray],
) -> None:
    """Raise GenaxError for copies and fixed tensors with other values than they should have."""
    for copy, of in architecture.copies.items():
        if copy in tensors.places and copy not in wanted:
            found, original = tensors.read(copy), tensors.read(of)
            if not np.array_equal(found, original, equal_nan=True):
                raise GenaxError(
                    f"{directory}: tensor {copy} should repeat {of}, but differs from it."
                )
    for name, value in fixed.items():
        if name in tensors.places:
            found = tensors.read(name)
            if found.shape != value.shape or not np.allclose(found, value, rtol=0, atol=1e-6):
                raise GenaxError(
                    f"{directory}: tensor {name} differs from what the architecture computes."
                )
