"""Compiled programs as they are written, against sizes by hand."""

import pytest

from genax.ahead.hlo import Program, Size

ARRAYS = {
    # 32 of 128 lanes are filled: the axes are ordered innermost first, and that is the last.
    "bf16[8,1024,12,32]{3,1,2,0:T(8,128)(2,1)}": (8 * 12 * 1024 * 128 * 2, 8 * 12 * 1024 * 32 * 2),
    # 1,024 is innermost and 12 fills 16 rows.
    "bf16[8,1024,32,12]{1,3,2,0:T(8,128)(2,1)}": (8 * 32 * 16 * 1024 * 2, 8 * 32 * 12 * 1024 * 2),
    "f32[12,256]{1,0:T(8,128)}": (16 * 256 * 4, 12 * 256 * 4),
    "f32[1,256]{1,0:T(1,128)}": (256 * 4, 256 * 4),
    "f32[768]{0:T(1024)}": (1024 * 4, 768 * 4),
    "u8[768]{0:T(1024)(128)(4,1)}": (1024, 768),
    "s32[]{:T(128)}": (128 * 4, 4),
    "f32[12,256]{1,0}": (12 * 256 * 4, 12 * 256 * 4),
    "pred[5]": (5, 5),
    "s4[6]{0:T(8)E(4)}": (4, 3),
}


def array(text):
    line = f"ENTRY %main (x: f32[]) -> f32[] {{\n  ROOT %x = {text} parameter(0)\n}}"
    return Program(line).entry.root.sizes


@pytest.mark.parametrize("text", ARRAYS)
def test_sizes_by_tiles(text):
    stored, data = ARRAYS[text]
    assert array(text) == [Size(stored, data, main=True)]


def test_what_lies_outside_main_memory():
    found = array("(f32[8]{0:T(8)S(1)}, f32[8]{0:T(8)}, s32[2]{0:S(4)})")
    assert [size.main for size in found] == [False, True, False]
