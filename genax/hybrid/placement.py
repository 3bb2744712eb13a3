"""Placement of the parameters of state-space models over a mesh of devices."""

from __future__ import annotations

from genax.nn.placement import PARTITION_RULES, with_stacks

# "tensor" splits channels or heads. "fsdp" splits the width of the model, or channels too where
# nothing else is large.
_CHANNELS = ("tensor", "fsdp")
_SHARED = (
    ("**/mixer/convolution/kernel", (None, _CHANNELS)),
    ("**/mixer/output/kernel", ("tensor", "fsdp")),
)
_MAMBA = (
    ("**/mixer/input/kernel", ("fsdp", None, "tensor")),
    ("**/mixer/input/bias", (None, "tensor")),
    ("**/mixer/selection/kernel", (_CHANNELS, None)),
    ("**/mixer/time_step/kernel", (None, _CHANNELS)),
    ("**/mixer/A_log", (_CHANNELS, None)),
)
# Gate, channels, B, C and time steps are one projection, of which a device has any part: XLA sends
# to each what its heads need.
_MAMBA2 = (("**/mixer/joint_input/kernel", ("fsdp", "tensor")),)
_S4D = (("**/mixer/output/kernel", ("fsdp", None, "tensor")),)
MAMBA_RULES = (*PARTITION_RULES, *with_stacks((*_SHARED, *_MAMBA)))
MAMBA2_RULES = (*PARTITION_RULES, *with_stacks((*_SHARED, *_MAMBA2)))
S4D_RULES = (*PARTITION_RULES, *with_stacks(_S4D))
