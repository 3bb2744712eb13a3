"""The tensors of a directory, read from safetensors without running what the files hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from genax.core.errors import GenaxError
from genax.settings.files import read_json

# How transformers and diffusers name their files.
STEMS = ("model", "diffusion_pytorch_model")
# Ends of names of weights in other formats, or of a part or copy such as model.fp16.safetensors.
OTHERS = (".bin", ".ckpt", ".h5", ".msgpack", ".onnx", ".pt", ".pth", ".safetensors")
FLOATS = ("F32", "F16", "BF16", "F64")


class Tensors:
    """Tensors by their names of today, each read as float32 when it is asked for.

    places: the file of each tensor, and its name there.
    """

    def __init__(
        self,
        directory: Path,
        copies: Mapping[str, str],
        renames: tuple[tuple[str, str], ...],
    ):
        """List the tensors of a directory.

        copies: tensors that repeat another one.
        renames: (pattern, replacement) of names in older files.
        Raises GenaxError for missing or damaged files and for a tensor that is there twice.
        """
        self.directory, self._copies = directory, copies
        self.places: dict[str, tuple[Path, str]] = {}
        for stored, path in _files(directory).items():
            name = stored
            for pattern, replacement in renames:
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
        """Let a copy take the place of each wanted tensor that is missing."""
        for copy, of in self._copies.items():
            if of in wanted and of not in self.places and copy in set(self.places) - wanted:
                self.places[of] = self.places[copy]

    def read(self, name: str) -> np.ndarray:
        """Return a tensor as float32.

        Raises GenaxError for one of another type than FLOATS.
        """
        path, stored = self.places[name]
        kind = self._open[path].get_slice(stored).get_dtype()
        if kind not in FLOATS:
            raise GenaxError(
                f"{self.directory}: tensor {stored} is of type {kind}, none of {', '.join(FLOATS)}."
            )
        return np.asarray(self._open[path].get_tensor(stored)).astype(np.float32)


def weights(stem: str) -> str:
    """Return the name of the file that holds all tensors."""
    return f"{stem}.safetensors"


def _files(directory: Path) -> dict[str, Path]:
    """Return the file of each tensor, by the tensor's name there.

    Raises GenaxError for files that are missing or damaged and for a tensor in two files.
    """
    for stem in STEMS:
        single, index = directory / weights(stem), directory / f"{weights(stem)}.index.json"
        if index.is_file():
            found = _shards(directory, index)
            if single.is_file():
                raise GenaxError(
                    f"{directory} holds both {single.name} and {index.name}; remove one of them."
                )
            return found
        if single.is_file():
            return dict.fromkeys(_names(single), single)
    names = " nor ".join(weights(stem) for stem in STEMS)
    others = sorted(path.name for path in directory.glob("*") if path.suffix in OTHERS)
    holds = f"; it holds {', '.join(others[:5])}" if others else ""
    raise GenaxError(
        f"{directory} holds neither {names}, nor an index of shards of that name{holds}: other "
        "formats are not read, nor other names."
    )


def _shards(directory: Path, index: Path) -> dict[str, Path]:
    listed = read_json(index).get("weight_map")
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
    return found


def _names(path: Path) -> set[str]:
    if not path.is_file():
        raise GenaxError(f"{path} is missing; fetch it.")
    try:
        with safe_open(path, framework="numpy") as file:
            return set(file.keys())
    except (SafetensorError, OSError) as error:
        raise GenaxError(f"{path} is damaged or cut short ({error}); fetch it again.") from error
