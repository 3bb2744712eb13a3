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
