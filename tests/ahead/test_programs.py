"""What is said of compiled steps, against figures by hand."""

import dataclasses

import pytest

from genax.ahead.programs import Compiled, Memory, wrap_around

TEXT = """
HloModule step, num_partitions=4

ENTRY %main (x: f32[1024,1024]) -> f32[1024,1024] {
  %x = f32[1024,1024]{1,0:T(8,128)} parameter(0)
  %sum = f32[1024,1024]{1,0:T(8,128)} all-reduce(%x), replica_groups={}, to_apply=%add
  ROOT %y = f32[1024,1024]{1,0:T(8,128)} negate(%sum), backend_config={"estimated_cycles":"15000"}
}
"""
STEP = Compiled(
    kind="TPU v5 lite",
    devices=4,
    mesh={"data": 4},
    seconds=1.0,
    flops=4 * 197e12,
    memory=Memory(0, 0, 0, 0),
    wanted=0,
    kernel_flops=197e12 / 2,
    text=TEXT,
)


def test_the_roofline_is_the_longest():
    found = STEP.roofline
    assert found.compute == found.step == 1
    assert found.bound == "compute"
    assert found.memory == 4 * 2**22 / 819e9
    assert found.links == 2 * 2**22 * 3 / 4 / (4 * 4.5e10)
    assert STEP.utilisation(4 * 197e12 / 2, found) == 1 / 2


def test_the_estimate_is_the_sum():
    """The compiler's cycles at 1.5 GHz; kernels and collectives, for which it states none."""
    found = STEP.estimate
    assert found.instructions == 1e-5
    assert found.kernels == 1 / 2
    assert found.links == STEP.roofline.links
    assert found.step == found.instructions + found.kernels + found.links
    assert STEP.utilisation(4 * 197e12, found) == 1 / found.step


@pytest.mark.parametrize(
    ("changed", "roofline"),
    [({"kind": "cpu"}, False), ({"text": None}, False), ({"kind": "NVIDIA H200"}, True)],
)
def test_no_estimate(changed, roofline):
    """Chips without figures, steps that do not fit, chips whose compiler states no cycles."""
    found = dataclasses.replace(STEP, **changed)
    assert found.estimate is None
    assert (found.roofline is not None) == roofline
    assert found.utilisation(1.0, found.estimate) is None


@pytest.mark.parametrize(
    ("name", "wrapped"),
    [
        ("v5p:4x4x4", [True] * 3),
        ("v4:4x4x8", [True] * 3),
        ("v5p:8x8x8", [True] * 3),
        ("v5p:2x4x4", [False] * 3),
        ("v4:2x2x1", [False] * 3),
        ("v5e:4x8", [False] * 3),
        ("v5e:16x16", [True, True, False]),
        ("v5e:8x16", [False, True, False]),
        ("v6e:16x16", [True, True, False]),
        ("v5p", [False] * 3),
    ],
)
def test_slices_that_wrap_around(name, wrapped):
    assert wrap_around(name) == wrapped
