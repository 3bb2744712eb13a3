"""Placement of Transformer parameters over a mesh of devices."""

from __future__ import annotations

from collections.abc import Sequence

# "tensor" splits heads and the feed-forward width (Shoeybi et al. 2019, section 3). "fsdp" splits
# the width of the model.
_RULES = (
    ("**/token_embedding/embedding", ("tensor", "fsdp")),
    ("**/position_embedding/embedding", (None, "fsdp")),
    ("**/head/embedding", ("tensor", "fsdp")),
    ("**/qkv/kernel", ("fsdp", None, "tensor", None)),
    ("**/qkv/bias", (None, "tensor", None)),
    ("**/query/kernel", ("fsdp", "tensor", None)),
    ("**/query/bias", ("tensor", None)),
    ("**/key_value/kernel", ("fsdp", None, "tensor", None)),
    ("**/key_value/bias", (None, "tensor", None)),
    ("**/*attention/output/kernel", ("tensor", None, "fsdp")),
    ("**/feed_forward/gate/kernel", ("fsdp", "tensor")),
    ("**/feed_forward/gate/bias", ("tensor",)),
    ("**/feed_forward/expand/kernel", ("fsdp", "tensor")),
    ("**/feed_forward/expand/bias", ("tensor",)),
    ("**/feed_forward/expand_and_gate/kernel", ("fsdp", None, "tensor")),
    ("**/feed_forward/expand_and_gate/bias", (None, "tensor")),
    ("**/feed_forward/output/kernel", ("tensor", "fsdp")),
)


def with_stacks(rules: Sequence[tuple[str, tuple]]) -> tuple[tuple[str, tuple], ...]:
    """Return rules for single layers and for those under `nn.scan`, with one more leading axis."""
    return tuple(rule for path, axes in rules for rule in ((path, axes), (path, (None, *axes))))


PARTITION_RULES = with_stacks(_RULES)
