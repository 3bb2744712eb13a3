"""What genax knows of a Hugging Face class, so that it can read and write its directories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genax.interop.configuration import Configuration
from genax.interop.conversion import Conversion

# The content of a config.json.
Config = dict[str, Any]
# Variables by their paths from the root, such as "params/decoder/final_norm/scale".
Leaves = Mapping[str, Any]


@dataclass(frozen=True)
class Architecture:
    """A Hugging Face class: how its directory becomes a model, and which tensors hold its weights.

    build: (name of the class, configuration, names of the tensors) -> model.
    conversions: model -> the tensors of each variable.
    inputs: model -> example inputs, which give the variables their shapes.
    copies: tensors that repeat another one. Older files have them besides it or in its place.
    buffers: patterns of names of tensors that hold no variable.
    renames: (pattern, replacement) of names in older files.
    fixed: model -> tensors that hold no variable and may have one value only.
    unread: patterns of names of parts that the class does not have, although its files often do.
    experiment: model -> path and variant of the experiment of genax that trains such models, and
      settings of it that do not follow from the networks; None if there is none. Its task names its
      networks as the model does.
    """

    build: Callable[[str, Configuration, set[str]], nn.Module]
    conversions: Callable[[Any], list[Conversion]]
    inputs: Callable[[Any], Mapping[str, jax.Array]]
    copies: Mapping[str, str] = field(default_factory=dict)
    buffers: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    fixed: Callable[[Any], Mapping[str, np.ndarray]] = lambda model: {}
    unread: tuple[str, ...] = ()
    experiment: Callable[[Any], tuple[str, Mapping[str, Any]] | None] = lambda model: None


def token_inputs(model: Any) -> dict[str, jax.Array]:
    """Return example inputs of a model that reads tokens."""
    return {"input_ids": jnp.zeros((1, 2), jnp.int32)}


@dataclass(frozen=True)
class Exporter:
    """The way from the networks of a task back to a Hugging Face class.

    attribute: the name of the network among the task's networks.
    network: the class of the network.
    config: (networks, leaves) -> the content of config.json. It raises GenaxError for a network
      that the class cannot express.
    leaves: (network, leaves) -> the leaves of the imported model. The layers of a scanned stack are
      one by one already.
    """

    attribute: str
    network: type[nn.Module]
    config: Callable[[Any, Leaves], Config]
    leaves: Callable[[Any, Leaves], Leaves] = lambda network, leaves: leaves


@dataclass(frozen=True)
class Family:
    """The Hugging Face classes around one network.

    architectures: the classes by name.
    exporter: None if networks that genax trained cannot be exported as one of the classes.
    """

    architectures: Mapping[str, Architecture]
    exporter: Exporter | None = None
