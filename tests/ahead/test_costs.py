"""What compiled programs cost, against counts by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from genax.ahead.costs import costs
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
  %row.1 = f32[256]{0:T(256)S(1)} fusion(%table, %counter), kind=kLoop, calls=%fused, CYCLES
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
    text = LOOP.replace("CYCLES", 'backend_config={"window_config":{"estimated_cycles":"70"}}')
    return costs(text.replace("END", str(end)).replace("GROUPS", groups))


@pytest.mark.parametrize(("end", "times"), [(12, 6), (2, 1), (1, 0)])
def test_a_loop_counts_as_often_as_it_runs(end, times):
    """From 1 in steps of 2. It reads a row and writes one; what lies in S(1) is not main memory."""
    found = loop(end)
    assert found.open_loops == 0
    # A row of one of (8, 128) tiles is eight. The counter too, which fills a tile of 128: its sum
    # reads two numbers and writes one, the fusion reads one.
    assert found.memory == times * (8 * 1024 + 1024 + 4 * 512)
    assert found.collectives == {"all-reduce": (times, times * 2 * 1024 * 3 / 4)}
    assert found.cycles == times * 70


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


FUSION = """
HloModule step, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%sliced (s0: f32[32,8,128], s1: s32[]) -> f32[8,128] {
  %s0 = f32[32,8,128]{2,1,0:T(8,128)} parameter(0)
  %s1 = s32[]{:T(128)S(6)} parameter(1)
  %zero = s32[] constant(0)
  %slice = f32[1,8,128]{2,1,0:T(8,128)} dynamic-slice(%s0, %s1, %zero, %zero)
  ROOT %one = f32[8,128]{1,0:T(8,128)} bitcast(%slice)
}

%updated (u0: f32[32,8,128], u1: f32[8,128], u2: s32[]) -> f32[32,8,128] {
  %u0 = f32[32,8,128]{2,1,0:T(8,128)} parameter(0)
  %u1 = f32[8,128]{1,0:T(8,128)} parameter(1)
  %u2 = s32[]{:T(128)S(6)} parameter(2)
  %none = s32[] constant(0)
  %whole = f32[32,8,128]{2,1,0:T(8,128)} bitcast(%u0)
  %new = f32[1,8,128]{2,1,0:T(8,128)} bitcast(%u1)
  ROOT %all = f32[32,8,128]{2,1,0:T(8,128)} dynamic-update-slice(%whole, %new, %u2, %none, %none)
}

%product (p0: f32[32,8,128], p1: s32[], p2: f32[32,8,128]) -> (f32[8,128], f32[32,8,128]) {
  %p0 = f32[32,8,128]{2,1,0:T(8,128)} parameter(0)
  %p1 = s32[]{:T(128)S(6)} parameter(1)
  %p2 = f32[32,8,128]{2,1,0:T(8,128)} parameter(2)
  %layer = f32[8,128]{1,0:T(8,128)} fusion(%p0, %p1), kind=kLoop, calls=%sliced
  %square = f32[8,128]{1,0:T(8,128)} multiply(%layer, %layer)
  %kept = f32[32,8,128]{2,1,0:T(8,128)} fusion(%p2, %square, %p1), kind=kLoop, calls=%updated
  ROOT %both = (f32[8,128]{1,0:T(8,128)}, f32[32,8,128]{2,1,0:T(8,128)}) tuple(%square, %kept)
}

%COMPUTATION (r0: f32[64,128]) -> f32[8,128] {
  %r0 = f32[64,128]{1,0:T(8,128)} parameter(0)
  %reduced = f32[64,128]{1,0:T(8,128)} all-reduce(%r0), replica_groups={}, to_apply=%add
  %zeros = s32[] constant(0)
  ROOT %mine = f32[8,128]{1,0:T(8,128)} dynamic-slice(%reduced, %zeros, %zeros)
}

ENTRY %main (stack: f32[32,8,128], kept.1: f32[32,8,128], grown: f32[64,128]) -> f32[8,128] {
  %stack = f32[32,8,128]{2,1,0:T(8,128)} parameter(0)
  %kept.1 = f32[32,8,128]{2,1,0:T(8,128)} parameter(1)
  %grown = f32[64,128]{1,0:T(8,128)S(1)} parameter(2)
  %turn = s32[]{:T(128)S(6)} constant(3)
  %work = (f32[8,128]{1,0:T(8,128)}, f32[32,8,128]{2,1,0:T(8,128)}) OUTER, calls=%product
  ROOT %part = f32[8,128]{1,0:T(8,128)S(1)} fusion(%grown), kind=kCustom, calls=%COMPUTATION
}
""".replace("OUTER", "fusion(%stack, %turn, %kept.1), kind=kOutput")


def test_a_fusion_within_a_fusion_that_reads_and_writes_one_layer_of_a_stack():
    """It reads a layer of one stack, and writes its square and, in place, a layer of another."""
    assert costs(FUSION).memory == 3 * 8 * 128 * 4


@pytest.mark.parametrize(
    ("computation", "kind", "times"),
    [
        ("all-reduce-scatter.4.clone", "reduce-scatter", 1),
        ("fused_computation.4", "all-reduce", 2),
    ],
)
def test_a_fused_reduction_of_which_each_device_keeps_a_part(computation, kind, times):
    found = costs(FUSION.replace("COMPUTATION", computation))
    assert found.collectives == {kind: (1, times * 64 * 128 * 4 * 7 / 8)}


PADDED = """
HloModule step, num_partitions=4

ENTRY %main (part: bf16[8,1024,12,32]) -> bf16[8,1024,12,128] {
  %part = bf16[8,1024,12,32]{3,1,2,0:T(8,128)(2,1)} parameter(0)
  ROOT %all = bf16[8,1024,12,128]{3,1,2,0:T(8,128)(2,1)} all-gather(%part), replica_groups={}
}
"""


def test_padding_is_moved_but_not_sent():
    """A quarter of each of 128 lanes is data."""
    data = 8 * 1024 * 12 * 32 * 2
    found = costs(PADDED)
    assert found.memory == 4 * data + 4 * data
    assert found.sent == 3 * data


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
