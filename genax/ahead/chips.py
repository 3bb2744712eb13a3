"""What chips can do at best: the figures that a roofline is drawn with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """A chip's published figures.

    flops: a second, of products in bfloat16 without sparsity. memory: bytes. bandwidth: of that
    memory, bytes a second. links: bytes a second that a chip can send to others in its torus or
    node, over all its links together. clock: cycles a second, of chips whose compiler counts them.
    """

    name: str
    flops: float
    memory: float
    bandwidth: float
    links: float
    clock: float | None = None


_GIB = 2.0**30

# By what a device calls itself: a PCIe or NVL card, or a part of one, has other figures.
# FLOPs and memory of TPUs: cloud.google.com/tpu/docs, pages v4, v5e, v5p, v6e. One link of a TPU
# sends 4.5e10 (v4, v5e) or 9e10 bytes a second (v5p, v6e), and there are 6 in a torus of three
# dimensions (v4, v5p), 4 in one of two: Austin et al. 2025, How to scale your model, chapter 2.
# The clock of a TPU is its FLOPs over those of a cycle, two for each cell of its matrix units: 8 of
# 128 x 128 (v4, v5p), 4 of them (v5e), 4 of 256 x 256 (v6e).
# H100, H200: NVIDIA's data sheets of the SXM modules; NVLink carries 900 GB/s, half each way.
CHIPS = {
    "TPU v4": Chip("v4", 275e12, 32 * _GIB, 1228e9, 6 * 4.5e10, 1.05e9),
    "TPU v5": Chip("v5p", 459e12, 95 * _GIB, 2765e9, 6 * 9e10, 1.75e9),
    "TPU v5 lite": Chip("v5e", 197e12, 16 * _GIB, 819e9, 4 * 4.5e10, 1.5e9),
    "TPU v6 lite": Chip("v6e", 918e12, 32 * _GIB, 1640e9, 4 * 9e10, 1.75e9),
    "NVIDIA H100 80GB HBM3": Chip("H100", 989.4e12, 80e9, 3.35e12, 450e9),
    "NVIDIA H200": Chip("H200", 989.4e12, 141e9, 4.8e12, 450e9),
}


def chip_of(device_kind: str) -> Chip | None:
    """The chip of a device, by `jax.Device.device_kind`; None if its figures are not known."""
    return CHIPS.get(device_kind)
