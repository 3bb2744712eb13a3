"""Sizes and tokenizer of weights that a new run starts with, as its settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import astuple, dataclass, is_dataclass
from typing import Any

import flax.linen as nn
from etils import epath
from ml_collections import ConfigDict

from genax.core import Experiment, tree
from genax.core.errors import GenaxError
from genax.data.text.run_tokenizer import find_tokenizer
from genax.data.text.tokenizers import Subwords, Tokenizer
from genax.front.restore import open_checkpoints
from genax.interop.configuration import activation_name
from genax.interop.pretrained import CONFIG, build_model
from genax.running.record import read_run
from genax.running.transfer import HUGGING_FACE
from genax.settings.files import read_json
from genax.settings.networks import NetworkSettings

# Settings that go with a tokenizer. They are taken if nothing else is asked for.
TOKENS = ("start_token", "end_token", "special_tokens", "mask_token")
MASK = "[MASK]"


@dataclass(frozen=True)
class Source:
    """Weights that a new run starts with.

    name: what errors name.
    networks: the networks that the weights are of.
    settings: "tokenizer", its kind, and settings of `TOKENS`.
    paths: of the arrays; empty if they are not stored yet.
    """

    name: str
    networks: nn.Module
    settings: Mapping[str, Any]
    paths: Collection[str] = ()


def read_source(folder: Any, networks_of: Callable[[str], nn.Module]) -> Source:
    """Return what a run or `genax import` left in a folder; reads no weights.

    networks_of: folder of a run -> its networks.
    Raises GenaxError if the folder holds neither.
    """
    path = epath.Path(folder)
    if not (path / "checkpoints").is_dir():
        if (path / CONFIG).exists():
            raise GenaxError(
                f"{folder} is a Hugging Face directory; run `genax import {folder} OUT` and name "
                "OUT."
            )
        raise GenaxError(f"{folder} holds no checkpoints to start from.")
    checkpoints, step = open_checkpoints(folder)
    paths = set(checkpoints.shapes(step))
    checkpoints.close()
    record = read_run(folder)
    if record is not None and "imported" not in record:
        names = ("tokenizer", *TOKENS)
        known = {name: record["config"][name] for name in names if name in record["config"]}
        known = {n: tuple(v) if isinstance(v, list) else v for n, v in known.items()}
        return Source(str(folder), networks_of(str(folder)), known, paths)
    files = path / HUGGING_FACE
    config = read_json(files / CONFIG)
    networks = build_model(config, str(files / CONFIG), paths)
    return Source(str(folder), networks, settings_of_files(files, networks), paths)


def settings_of_files(files: Any, networks: nn.Module) -> dict[str, Any]:
    """Return "tokenizer" and settings of `TOKENS` as the files of a Hugging Face model say them."""
    path = epath.Path(files)
    said = read_json(path / CONFIG)
    if (path / "generation_config.json").exists():
        generation = read_json(path / "generation_config.json")
        said = said | {name: value for name, value in generation.items() if value is not None}
    found: dict[str, Any] = {}
    tokenizer = find_tokenizer(path)
    if tokenizer is not None:
        found["tokenizer"] = tokenizer.kind
        if (mask := number_of(tokenizer, MASK)) is not None:
            found["mask_token"] = mask
    ends = said.get("eos_token_id")
    ends = tuple(ends) if isinstance(ends, list) else () if ends is None else (ends,)
    if ends:
        found["end_token"] = ends
    first = said.get("bos_token_id")
    if first is not None or ends:
        found["start_token"] = ends[0] if first is None else first
    if ends and hasattr(networks, "pad_token"):
        found["special_tokens"] = (networks.pad_token, networks.start_token, ends[0])
    return found


def number_of(tokenizer: Tokenizer, token: str) -> int | None:
    """Return the number of a special token, or None if a tokenizer has none of that name."""
    return tokenizer.model.token_to_id(token) if isinstance(tokenizer, Subwords) else None


def take(
    config: ConfigDict,
    declared: NetworkSettings,
    source: Source,
    given: Collection[str] = (),
) -> ConfigDict:
    """Return settings with the sizes and the tokenizer of a source.

    given: settings that were asked for. Those of the tokens stay as asked.
    Raises GenaxError for another network, and for a size or a tokenizer that was asked for and
    differs.
    """
    network = getattr(source.networks, declared.network, None)
    if not isinstance(network, declared.kind):
        kinds = declared.kind if isinstance(declared.kind, tuple) else (declared.kind,)
        raise GenaxError(
            f"config.pretrained={source.name} is {type(source.networks).__name__}, which has no "
            f"{' or '.join(kind.__name__ for kind in kinds)} named {declared.network!r}; this "
            "experiment trains no other."
        )
    known, defaults = config.to_dict(), declared.defaults(network)
    sizes = {
        name: _plain(value, network, known.get(name))
        for name, value in declared.of(network, known.get("new_head", False)).items()
        if name in known or value != defaults.get(name)
    }
    if "tokenizer" in source.settings:
        sizes["tokenizer"] = source.settings["tokenizer"]
    for name, value in sizes.items():
        if name in given and known.get(name) != value:
            raise GenaxError(
                f"config.{name}={known.get(name)} differs from {value} of the weights in "
                f"{source.name}; leave out --config.{name}, or --config.pretrained."
            )
    tokens = {
        name: value
        for name, value in source.settings.items()
        if name in TOKENS and name in known and name not in given
    }
    if "positions" in sizes and "context" not in given:
        tokens["context"] = min(known["context"], sizes["positions"])
    found = config.copy_and_resolve_references()
    with found.unlocked():
        for name, value in (sizes | tokens).items():
            # A ConfigDict refuses a value of another type than it holds.
            if name in found:
                del found[name]
            found[name] = value
    return found


def check_parts(experiment: Experiment, folder: str, source: Source) -> None:
    """Raise GenaxError if a source lacks what an experiment takes from a folder."""
    for pattern in experiment.pretrained.get(folder, {}):
        if not any(tree.matches(pattern, path) for path in source.paths):
            raise GenaxError(
                f"{source.name} has nothing under {pattern!r} to start from; if that is a head, "
                "start it anew by --config.new_head=true."
            )


def check_network(networks: nn.Module, declared: NetworkSettings, source: Source) -> None:
    """Raise GenaxError if an experiment with the settings of a source builds another network."""
    theirs = getattr(source.networks, declared.network)
    built = getattr(networks, declared.network)
    if type(built) is not type(theirs):
        raise GenaxError(
            f"{source.name} holds a {type(theirs).__name__}, and the settings are those of a "
            f"{type(built).__name__}."
        )
    old, new = (declared.of(network, new_head=True) for network in (theirs, built))
    for name in old:
        if old[name] != new[name]:
            raise GenaxError(
                f"{source.name} has weights for {name}={old[name]}, but the experiment builds its "
                f"network with {new[name]}."
            )


def _plain(value: Any, network: Any, default: Any) -> Any:
    """Return a field of a network as a setting, which has a default."""
    if value is None and isinstance(default, tuple):
        return ()
    if is_dataclass(value) and not isinstance(value, type):
        return astuple(value)
    return activation_name(network) if callable(value) else value
