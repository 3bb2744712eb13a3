"""What compiled programs move, against counts by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from genax.core.costs import costs
from genax.core.mesh import make_mesh

LOOP = """
HloModule step, num_partitions=8

%fused (p0: f32[12,256], p1: s32[]) -> f32[256] {
  %p0 = f32[12,256]{1,0:T(8,128)} parameter(0)
  %p1 = s32[]{:T(128)S(6)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %slice = f32[1,256]{1,0:T(8,128)} dynamic-slice(%p0, %p1, %zero), dynamic_slice_sizes={1,256}
  ROOT %row = f32[256]{0:T(256)S(1)} bitcast(%slice)
}

%body (state: (s32[], f32[12,256], f32[256])) -> (s32[], f32[12,256], f32[256]) {
  %state = (s32[]{:T(128)}, f32[12,256]{1,0:T(8,128)}, /*index=2*/f32[256]{0:T(256)}) parameter(0)
  %counter = s32[]{:T(128)} get-tuple-element(%state), index=0
  %table = f32[12,256]{1,0:T(8,128)} get-tuple-element(%state), index=1
  %two = s32[]{:T(128)} constant(2)
  %next = s32[]{:T(128)} add(%counter, %two)
  %row.1 = f32[256]{0:T(256)S(1)} fusion(%table, %counter), kind=kLoop, calls=%fused
  %all = f32[256]{0:T(256)S(1)} all-reduce(%row.1), channel_id=3, GROUPS, to_apply=%sum
  %copied = f32[256]{0:T(256)} copy(%all)
  ROOT %out = (s32[], f32[12,256], f32[256]) tuple(%next, %table, %copied)
}

%condition (state.1: (s32[], f32[12,256], f32[256])) -> pred[] {
  %state.1 = (s32[], f32[12,256], f32[256]) parameter(0)
  %counter.1 = s32[] get-tuple-element(%state.1), index=0
  %end = s32[] constant(END)
  ROOT %less = pred[] compare(%counter.1, %end), direction=LT
}

ENTRY %main (start: f32[12,256], row: f32[256]) -> f32[256] {
  %start = f32[12,256]{1,0:T(8,128)} parameter(0)
  %row = f32[256]{0:T(256)} parameter(1)
  %first = s32[]{:T(128)} constant(1)
  %states = (s32[], f32[12,256], f32[256]) tuple(%first, %start, %row)
  %loop = (s32[], f32[12,256], f32[256]) while(%states), condition=%condition, body=%body
  ROOT %result = f32[256]{0:T(256)} get-tuple-element(%loop), index=2
}
"""
GROUPS = "replica_groups={{0,1,2,3},{4,5,6,7}}"


def loop(end=12, groups=GROUPS):
    return costs(LOOP.replace("END", str(end)).replace("GROUPS", groups))


@pytest.mark.parametrize(("end", "times"), [(12, 6), (2, 1), (1, 0)])
def test_a_loop_counts_as_often_as_it_runs(end, times):
    """From 1 in steps of 2. It reads a row and writes one; what lies in S(1) is not main memory."""
    found = loop(end)
    assert found.open_loops == 0
    # A row of one of (8, 128) tiles is eight. The counter too, which fills a tile of 128: its sum
    # reads two numbers and writes one, the fusion reads one.
    assert found.memory == times * (8 * 1024 + 1024 + 4 * 512)
    assert found.collectives == {"all-reduce": (times, times * 2 * 1024 * 3 / 4)}


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("replica_groups=[2,4]<=[8]", 4),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", 2),
        ("replica_groups=mesh['a'=2,'b'=4] {'a','b'}", 8),
        ("replica_groups=mesh['a'=2,'b'=4] {'b'}", 4),
        ("replica_groups=mesh['a'=2,'b'=4], device_ids=([2,4]T(1,0)) {'a'}", 2),
        ("replica_groups=mesh['a'=2,'b'=4] {'a','b':(2)2}", 4),
        ("replica_groups={}", 8),
    ],
)
def test_groups_as_xla_writes_them(groups, size):
    assert loop(2, groups).sent == 2 * 1024 * (size - 1) / size


def test_a_loop_of_unknown_length_is_said():
    text = LOOP.replace("GROUPS", GROUPS).replace("%end = s32[] constant(END)", "")
    text = text.replace("compare(%counter.1, %end)", "compare(%counter.1, %counter.1)")
    assert costs(text).open_loops == 1


def test_a_compiled_loop():
    """Five layers, each of whose kernels is gathered from four devices, forward and backward."""
    mesh = make_mesh("fsdp=4")
    width, rows = 64, 32

    def place(*spec):
        return NamedSharding(mesh, PartitionSpec(*spec))

    def loss(kernels, x):
        def layer(x, kernel):
            kernel = lax.with_sharding_constraint(kernel, place())
            return lax.with_sharding_constraint(jnp.tanh(x @ kernel), place("fsdp")), None

        return lax.scan(layer, x, kernels)[0].sum()

    shapes = (
        jax.ShapeDtypeStruct((5, width, width), jnp.float32, sharding=place(None, "fsdp")),
        jax.ShapeDtypeStruct((rows, width), jnp.float32, sharding=place("fsdp")),
    )
    compiled = jax.jit(loss).lower(*shapes).compile()
    found = costs(compiled.as_text())
    assert found.open_loops == 0
    count, sent = found.collectives["all-gather"]
    assert count == 5
    assert sent == 5 * width * width * 4 * 3 / 4
    # Each layer reads its kernel at least.
    assert found.memory > 5 * width * width * 4
