"""The networks of a task as a Hugging Face class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from genax.core import tree
from genax.core.errors import GenaxError
from genax.interop.architecture import Config
from genax.interop.configuration import HARMLESS
from genax.interop.families import FAMILIES
from genax.nn.stack import unstack

_LABELS = ("id2label", "label2id")
# Settings that the new network and its weights decide.
_WRITTEN = {*_LABELS, "num_labels", "_num_labels", "problem_type", "dtype", "torch_dtype"}


def to_pretrained(
    networks: nn.Module, variables: Mapping[str, Any]
) -> tuple[Config, dict[str, Any]]:
    """Return a config.json's content and variables, for `export_pretrained`.

    networks: a network of the table's families under the name that its exporter gives, such as a
      GPT named "decoder", a BERT named "encoder" with its heads, or a ViT named "classifier".
    Layers of a scanned stack come out one by one. Biases that a GPT does not have become zeros,
    which is the same function.
    Raises GenaxError for other networks.
    """
    exporters = [family.exporter for family in FAMILIES if family.exporter is not None]
    for exporter in exporters:
        network = getattr(networks, exporter.attribute, None)
        if isinstance(network, exporter.network):
            break
    else:
        known = ", ".join(f"{one.network.__name__} named {one.attribute}" for one in exporters)
        raise GenaxError(
            f"{type(networks).__name__} cannot be exported: it has none of the networks that can "
            f"({known})."
        )
    leaves: Mapping[str, Any] = tree.flatten(variables)
    config = exporter.config(networks, leaves)
    if getattr(network, "scan_layers", False):
        for stack, layers in _stacks(network).items():
            leaves = unstack(leaves, f"params/{exporter.attribute}/{stack}", layers)
    return config, tree.nest(exporter.leaves(network, leaves))


def with_kept(config: Mapping[str, Any], kept: Mapping[str, Any]) -> Config:
    """Return a config.json's content with what still holds of that which the weights came with.

    That are settings which do not change what the network computes. Numbers of special tokens are
    the tokenizer's, so they stay. Names of classes stay if there are as many classes.

    config: what `to_pretrained` returned.
    """
    found = {name: value for name, value in kept.items() if name in HARMLESS - _WRITTEN}
    found |= config
    found |= {name: value for name, value in kept.items() if name.endswith("_token_id")}
    if len(kept.get("id2label", ())) == len(config.get("id2label", ())) > 0:
        found |= {name: kept[name] for name in _LABELS if name in kept}
    return found


def _stacks(network: Any) -> dict[str, int]:
    """Return the number of layers of each stack, by the stack's name."""
    encoder = getattr(network, "encoder_layers", None)
    both = {} if encoder is None else {"encoder_blocks": encoder}
    return {"blocks": network.num_layers, **both}
