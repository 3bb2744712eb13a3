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
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from genax.core import tree
from genax.core.errors import GenaxError
from genax.core.files import read_json, to_json
from genax.interop.configuration import Fields
from genax.interop.families import ARCHITECTURES, Architecture

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
FLOATS = ("F32", "F16", "BF16", "F64")


def load_pretrained(directory: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model of a Hugging Face directory and its variables, float32.

    module.apply(variables, **inputs) takes the inputs under their Hugging Face names (images with
    channels last) and returns the outputs under theirs. The directory holds config.json and
    model.safetensors, or its shards and their index. Tensors may have the names of older files.
    Raises GenaxError, before anything is computed, for an architecture or a setting that is not
    supported, for missing or surplus tensors or ones of another shape, and for damaged files.
    Warns of parts that the directory has but the architecture does not.
    """
    directory = Path(directory)
    config = _read_json(directory / CONFIG)
    name, architecture = _architecture(config, directory)
    tensors = _Tensors(directory, architecture)
    module = build_model(config, directory / CONFIG, set(tensors.places))
    links, fixed = architecture.links(module), architecture.fixed(module)
    wanted = {name for link in links for name in link.names}
    tensors.fill_in(wanted)
    _check_names(directory, architecture, wanted, set(tensors.places) - set(fixed))
    shapes = _shapes(module, architecture, directory / CONFIG)

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
    _check_values(directory, architecture, tensors, wanted, fixed)
    unread = sorted(_matching(architecture.unread, tensors.places))
    if unread:
        warnings.warn(f"{directory}: {name} has no {', '.join(unread)}; left out.", stacklevel=2)
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
    shapes = _shapes(module, architecture, CONFIG)
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
    (directory / CONFIG).write_text(to_json(dict(config), indent=2, sort_keys=True) + "\n")


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
    found = config.get("architectures")
    if found in (None, []):
        raise GenaxError(
            f'{source} does not say what its weights are of: add a field "architectures" with a '
            f"list of one, which is supported if among {', '.join(ARCHITECTURES)}."
        )
    name = found[0] if isinstance(found, list) and len(found) == 1 else None
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise GenaxError(
            f"{source} is of architecture {name or found}; the supported ones are "
            f"{', '.join(ARCHITECTURES)}."
        )
    return name, ARCHITECTURES[name]


def _shapes(
    module: nn.Module, architecture: Architecture, source: str | Path
) -> dict[str, jax.ShapeDtypeStruct]:
    """Those of the parameters. source: what errors of the model's sizes name."""
    init: Any = module.init
    make = lambda: init(jax.random.key(0), **architecture.inputs(module))  # noqa: E731
    try:
        return tree.flatten(jax.eval_shape(make))
    except GenaxError as error:
        raise GenaxError(f"{source} makes no model: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise GenaxError(f"{path} is missing: {path.parent} is no Hugging Face directory.")
    return read_json(path)


def _files(directory: Path) -> Mapping[str, Path]:
    """File of each tensor, by its name there. Raises GenaxError for one that is there twice."""
    single, index = directory / WEIGHTS, directory / INDEX
    if not index.is_file():
        if not single.is_file():
            raise GenaxError(
                f"{directory} holds neither {WEIGHTS} nor {INDEX}; other formats are not read."
            )
        return dict.fromkeys(_names(single), single)
    listed = _read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise GenaxError(f"{index} has no weight_map from tensors to files.")
    found: dict[str, Path] = {}
    for shard in sorted(set(map(str, listed.values()))):
        if Path(shard).name != shard or shard == "..":
            raise GenaxError(f"{index} names {shard}, outside the directory.")
        names = _names(directory / shard)
        missing = {name for name, at in listed.items() if at == shard} - names
        if missing:
            raise GenaxError(f"{directory / shard} lacks {', '.join(sorted(missing)[:10])}.")
        twice = sorted(names & set(found))
        if twice:
            raise GenaxError(f"{directory} holds {', '.join(twice[:10])} twice, again in {shard}.")
        found |= dict.fromkeys(names, directory / shard)
    if single.is_file():
        raise GenaxError(f"{directory} holds both {WEIGHTS} and {INDEX}; remove one of them.")
    return found


def _names(path: Path) -> set[str]:
    if not path.is_file():
        raise GenaxError(f"{path} is missing; fetch it.")
    try:
        with safe_open(path, framework="numpy") as file:
            return set(file.keys())
    except (SafetensorError, OSError) as error:
        raise GenaxError(f"{path} is damaged or cut short ({error}); fetch it again.") from error


class _Tensors:
    """Tensors by their names of today, float32, each read from its file when it is asked for.

    places: file of each, and its name there.
    """

    def __init__(self, directory: Path, architecture: Architecture):
        self.directory, self._copies = directory, architecture.copies
        self.places: dict[str, tuple[Path, str]] = {}
        for stored, path in _files(directory).items():
            name = stored
            for pattern, replacement in architecture.renames:
                name = re.sub(pattern, replacement, name)
            if name in self.places:
                raise GenaxError(
                    f"{directory} holds {name} twice: as {stored} and as {self.places[name][1]}."
                )
            self.places[name] = path, stored
        # Not numpy's, which has no bfloat16.
        paths = {path for path, _ in self.places.values()}
        self._open = {path: safe_open(path, framework="flax") for path in paths}

    def fill_in(self, wanted: set[str]) -> None:
        """Where a wanted tensor is missing, take a copy of it."""
        for copy, of in self._copies.items():
            if of in wanted and of not in self.places and copy in set(self.places) - wanted:
                self.places[of] = self.places[copy]

    def read(self, name: str) -> np.ndarray:
        path, stored = self.places[name]
        kind = self._open[path].get_slice(stored).get_dtype()
        if kind not in FLOATS:
            raise GenaxError(
                f"{self.directory}: tensor {stored} is of type {kind}, none of {', '.join(FLOATS)}."
            )
        return np.asarray(self._open[path].get_tensor(stored)).astype(np.float32)


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
    tensors: _Tensors,
    wanted: set[str],
    fixed: Mapping[str, np.ndarray],
) -> None:
    """Raises GenaxError where copies or fixed tensors are not what they should be."""
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
