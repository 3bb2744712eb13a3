"""Settings that describe a network."""

from __future__ import annotations

from dataclasses import dataclass

from genax.settings import NetworkSettings


@dataclass
class Net:
    width: int
    depth: int = 2
    use_bias: bool = True
    classes: int = 3
    pooled: bool = False
    dropout: float = 0.0


def test_fields_become_settings():
    declared = NetworkSettings("net", Net, {"use_bias": "bias"}, ("pooled",), ("classes",))
    assert declared.of(Net(4), new_head=True) == {"width": 4, "depth": 2, "bias": True}
    assert declared.of(Net(4), new_head=False)["classes"] == 3
    assert declared.defaults(Net(4))["bias"] is True
