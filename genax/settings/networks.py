"""Which settings describe the network that an experiment trains, and what it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ml_collections import ConfigDict

# Fields that change how a network is trained or computed, and not which weights it has.
FREE = ("name", "parent", "dropout", "dtype", "remat", "scan_layers", "attention", "init_scale")


@dataclass(frozen=True)
class NetworkSettings:
    """The table `NETWORK` of an experiment, by which it takes sizes from pretrained weights.

    Each field of the network is the setting of that name. If there is none, the field becomes a
    setting, which `from_config` reads.

    network: the name of the network among those of the task.
    kind: its class, or one of several.
    names: settings that have another name than the field, by field.
    own: fields that the experiment alone decides.
    head: fields that count only if `config.new_head` is false.
    """

    network: str
    kind: type | tuple[type, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    own: tuple[str, ...] = ()
    head: tuple[str, ...] = ()

    def of(self, network: Any, new_head: bool) -> dict[str, Any]:
        """Return the settings that describe a network; a field that has its default may lack.

        Values are as in the network: functions and descriptions are no settings yet.
        """
        own = {*FREE, *self.own, *(self.head if new_head else ())}
        return {
            self.names.get(part.name, part.name): getattr(network, part.name)
            for part in fields(network)
            if part.name not in own
        }

    def defaults(self, network: Any) -> dict[str, Any]:
        """Return the values that a network's fields have by default, by setting."""
        return {self.names.get(part.name, part.name): part.default for part in fields(network)}


def start_from(config: ConfigDict, *parts: str) -> dict[str, dict[str, str]]:
    """Return `Experiment.pretrained`: parts of what `config.pretrained` names, or nothing.

    parts: patterns of parameters, such as "decoder", the same there and in the task.
    """
    paths = {f"params/{part}": f"params/{part}" for part in parts}
    return {config.pretrained: paths} if config.pretrained else {}
