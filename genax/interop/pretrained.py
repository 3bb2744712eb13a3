"""Directories of config.json and safetensors, read and written without running what they hold."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from genax.core import tree
from genax.core.errors import GenaxError
from genax.interop.architectures import ARCHITECTURES, Architecture
from genax.interop.fields import Fields

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


def load_pretrained(directory: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model of a Hugging Face directory and its variables, float32.

    module.apply(variables, **inputs) takes the inputs under their Hugging Face names (images with
    channels last) and returns the outputs under theirs. The directory holds config.json and
    model.safetensors, or its shards and their index.
    Raises GenaxError, before anything is computed, for an architecture or a setting that is not
    supported, for missing or surplus tensors or ones of another shape, and for damaged files.
    """
    directory = Path(directory)
    config = _read_json(directory / CONFIG)
    _, architecture = _architecture(config, directory)
    files = _files(directory)
    module = build_model(config, directory / CONFIG, set(files))
    links = architecture.links(module)
    shapes = _shapes(module, architecture)
    _check_names(directory, architecture, links, set(files))

    tensors = _Tensors(directory, files)
    params = {}
    for link in links:
        shape = shapes[f"params/{link.path}"].shape
        found = [tensors.read(tensor) for tensor in link.names]
        expected = link.write(np.broadcast_to(np.float32(0), shape))
        for tensor, array, like in zip(link.names, found, expected, strict=True):
            if array.shape != like.shape:
                raise GenaxError(
                    f"{directory}: tensor {tensor} has shape {list(array.shape)}, but {CONFIG} "
                    f"makes it {list(like.shape)}."
                )
        params[f"params/{link.path}"] = jnp.asarray(link.read(found, shape))
    _check_copies(directory, architecture, tensors, {n for link in links for n in link.names})
    return module, tree.nest(params)


def export_pretrained(
    config: Mapping[str, Any], variables: Mapping[str, Any], directory: str | Path
) -> None:
    """Write a model's parameters as a Hugging Face directory, which transformers loads.

    config: what config.json is to hold, with "architectures". variables: as `load_pretrained`
    gives them for it. Raises GenaxError where they do not fit, or the directory is not empty.
    """
    directory = Path(directory)
    if directory.exists() and any(directory.iterdir()):
        raise GenaxError(f"{directory} is not empty; choose another directory.")
    _, architecture = _architecture(config, directory)
    params = tree.flatten({"params": variables["params"]})
    module = build_model(config, CONFIG, set(params))
    shapes = _shapes(module, architecture)
    wrong = sorted(set(params) ^ set(shapes))
    wrong += [
        path for path in set(params) & set(shapes) if params[path].shape != shapes[path].shape
    ]
    if wrong:
        raise GenaxError(f"the variables do not fit {CONFIG}: {', '.join(wrong[:10])}.")
    tensors = {}
    for link in architecture.links(module):
        written = link.write(np.asarray(params[f"params/{link.path}"]))
        for name, array in zip(link.names, written, strict=True):
            tensors[name] = np.ascontiguousarray(array)
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    (directory / CONFIG).write_text(json.dumps(dict(config), indent=2, sort_keys=True) + "\n")


def build_model(config: Mapping[str, Any], source: str | Path, names: set[str]) -> nn.Module:
    """The model that a config.json describes. names: of its tensors or parameters.

    Raises GenaxError for what is not supported.
    """
    name, architecture = _architecture(config, source)
    fields = Fields(config, str(source))
    module = architecture.build(name, fields, names)
    fields.done()
    return module


def _architecture(config: Mapping[str, Any], source: str | Path) -> tuple[str, Architecture]:
    found = config.get("architectures") or []
    name = found[0] if len(found) == 1 else ""
    if name not in ARCHITECTURES:
        raise GenaxError(
            f"{source} is of architecture {name or found}; the supported ones are "
            f"{', '.join(ARCHITECTURES)}."
        )
    return name, ARCHITECTURES[name]


def _shapes(module: nn.Module, architecture: Architecture) -> dict[str, jax.ShapeDtypeStruct]:
    inputs = architecture.inputs(module)
    init: Any = module.init
    return tree.flatten(jax.eval_shape(lambda: init(jax.random.key(0), **inputs)))


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise GenaxError(f"{path} is missing: {path.parent} is no Hugging Face directory.")
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise GenaxError(f"{path} is not readable as JSON ({error}).") from error
    if not isinstance(found, dict):
        raise GenaxError(f"{path} holds no JSON object.")
    return found


def _files(directory: Path) -> dict[str, Path]:
    """File of each tensor, by its name."""
    if (directory / INDEX).is_file():
        shards = _read_json(directory / INDEX).get("weight_map", {})
        for shard in set(shards.values()):
            if Path(shard).name != shard:
                raise GenaxError(f"{directory / INDEX} names {shard}, outside the directory.")
        listed = {name: directory / shard for name, shard in shards.items()}
        for path in sorted(set(listed.values())):
            missing = {name for name, at in listed.items() if at == path} - _names(path)
            if missing:
                raise GenaxError(f"{path} lacks {', '.join(sorted(missing)[:10])}.")
        return listed
    if not (directory / WEIGHTS).is_file():
        raise GenaxError(
            f"{directory} holds neither {WEIGHTS} nor {INDEX}; other formats are not read."
        )
    return dict.fromkeys(_names(directory / WEIGHTS), directory / WEIGHTS)


def _names(path: Path) -> set[str]:
    try:
        with safe_open(path, framework="numpy") as file:
            return set(file.keys())
    except (SafetensorError, OSError) as error:
        raise GenaxError(f"{path} is damaged or cut short ({error}); fetch it again.") from error


class _Tensors:
    """Tensors by name, float32, each read from its file when it is asked for."""

    def __init__(self, directory: Path, files: Mapping[str, Path]):
        self.directory, self.files = directory, files
        # Not numpy's, which has no bfloat16.
        self._open = {path: safe_open(path, framework="flax") for path in set(files.values())}

    def read(self, name: str) -> np.ndarray:
        array = np.asarray(self._open[self.files[name]].get_tensor(name))
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise GenaxError(f"{self.directory}: tensor {name} is {array.dtype}, not a float.")
        return array.astype(np.float32)


def _check_names(directory: Path, architecture: Architecture, links: Any, found: set[str]) -> None:
    wanted = {name for link in links for name in link.names}
    surplus = {
        name
        for name in found - wanted - set(architecture.copies)
        if not any(re.fullmatch(pattern, name) for pattern in architecture.buffers)
    }
    lines = []
    for what, names in (("lacks", wanted - found), ("has surplus", surplus)):
        if names:
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            lines.append(f"{what} {', '.join(sorted(names)[:10])}{more}")
    if lines:
        raise GenaxError(f"{directory} {'; it '.join(lines)}.")


def _check_copies(
    directory: Path, architecture: Architecture, tensors: _Tensors, linked: set[str]
) -> None:
    for copy, of in architecture.copies.items():
        if (
            copy in tensors.files
            and copy not in linked
            and not np.array_equal(tensors.read(copy), tensors.read(of))
        ):
            raise GenaxError(f"{directory}: tensor {copy} should repeat {of}, but differs from it.")
