"""Figures are those of the very chip, or of none."""

import pytest

from genax.ahead.chips import chip_of


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("TPU v4", "v4"),
        ("TPU v5", "v5p"),
        ("TPU v5 lite", "v5e"),
        ("TPU v6 lite", "v6e"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
    ],
)
def test_chips_by_what_they_call_themselves(kind, name):
    assert chip_of(kind).name == name


@pytest.mark.parametrize(
    "kind", ["cpu", "TPU v4 lite", "NVIDIA H100 PCIe", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"]
)
def test_chips_with_other_figures(kind):
    assert chip_of(kind) is None


@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        ("TPU v4", 8 * 128**2),
        ("TPU v5", 8 * 128**2),
        ("TPU v5 lite", 4 * 128**2),
        ("TPU v6 lite", 4 * 256**2),
    ],
)
def test_the_clock_gives_the_peak(kind, cells):
    """A multiply-add for each cell of its matrix units in each cycle."""
    chip = chip_of(kind)
    assert 2 * cells * chip.clock == pytest.approx(chip.flops, rel=2e-3)
