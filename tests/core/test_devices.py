"""Meshes and the places of a state's leaves."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from genax.core import GenaxError
from genax.core.data import Shard
from genax.core.devices import Jit, Pmap, create, make_strategy
from genax.core.mesh import make_mesh
from genax.core.task import TrainState
from tests.core.toys import line_state, line_task

RULES = (("attention/kernel", ("fsdp", "tensor")), ("**/bias", (None,)))


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("data=-1,fsdp=1,tensor=1", (4, 1, 1, 1)),
        ("data=-1", (4, 1, 1, 1)),
        ("fsdp=-1, data=2", (2, 2, 1, 1)),
        ("data=1,fsdp=2,tensor=2", (1, 2, 1, 2)),
        ("sequence=4", (1, 1, 4, 1)),
    ],
)
def test_meshes(text, shape):
    mesh = make_mesh(text)
    assert mesh.axis_names == ("data", "fsdp", "sequence", "tensor")
    assert mesh.devices.shape == shape


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data=3", "does not fit 4 device"),
        ("data=8", "does not fit 4 device"),
        ("data=-1,fsdp=3", "does not fit 4 device"),
        ("data=-1,fsdp=-1", "does not fit 4 device"),
        ("data=-2,fsdp=-2", "does not fit 4 device"),
        ("data=0", "does not fit 4 device"),
        ("data=-1,fsdp=0", "does not fit 4 device"),
        ("data=--1", "'data=--1' is not AXIS=SIZE"),
        ("data=2,data=4", "'data=4' is not AXIS=SIZE"),
        ("model=4", "'model=4' is not AXIS=SIZE"),
        ("data", "'data' is not AXIS=SIZE"),
        ("data=two", "'data=two' is not AXIS=SIZE"),
        ("", "'' is not AXIS=SIZE"),
    ],
)
def test_meshes_that_cannot_be(text, said):
    with pytest.raises(GenaxError, match=said):
        make_mesh(text)


def over(processes, data, rest):
    """A strategy over devices of these processes, in the mesh's order."""
    devices = np.array([SimpleNamespace(process_index=process) for process in processes])
    shape = {"data": data, "fsdp": 1, "sequence": rest, "tensor": 1}
    return Jit(SimpleNamespace(devices=devices.reshape(tuple(shape.values())), shape=shape))


@pytest.mark.parametrize(
    ("processes", "data", "rest", "part"),
    [
        ((0, 0, 1, 1), 4, 1, Shard(0, 2)),
        ((1, 1, 0, 0), 4, 1, Shard(1, 2)),
        ((0, 0, 1, 1), 2, 2, Shard(0, 2)),
        ((0, 0, 1, 1), 1, 4, Shard(0, 1)),  # an axis across processes: both read all
        ((1, 1, 2, 2, 0, 0, 3, 3), 2, 4, Shard(1, 2)),
        ((0, 1, 0, 1), 2, 2, Shard(0, 1)),
        ((0, 0, 0, 0), 4, 1, Shard(0, 1)),
    ],
)
def test_the_part_of_a_batch_that_this_process_holds(processes, data, rest, part):
    assert over(processes, data, rest).part == part


def test_parts_of_two_sizes():
    with pytest.raises(GenaxError, match="which cannot read parts of one size"):
        _ = over((0, 0, 0, 1), 2, 2).part


def specs(rules, text="data=1,fsdp=2,tensor=2", **shapes):
    """Path to partition specification, for leaves of these shapes ("__" is "/")."""
    nested = {
        name.replace("__", "/"): jax.ShapeDtypeStruct(s, jnp.float32) for name, s in shapes.items()
    }
    state = TrainState(
        step=jax.ShapeDtypeStruct((), jnp.int32),
        rng=jax.ShapeDtypeStruct((2,), jnp.uint32),
        params=nested,
        collections={"statistics": nested},
        opt_state={},
        ema=nested,
    )
    return jax.tree.map(lambda s: s.spec, Jit(make_mesh(text), rules).shardings(state))


def test_the_first_rule_that_matches_places_a_leaf():
    found = specs(RULES, model__attention__kernel=(4, 6), model__mlp__kernel=(4, 6), mlp__bias=(6,))
    for leaves in (found.params, found.ema):
        assert leaves["model/attention/kernel"] == P("fsdp", "tensor")
        assert leaves["model/mlp/kernel"] == P("tensor", "fsdp")
        assert leaves["mlp/bias"] == P(None)


def test_without_a_rule_the_largest_divisible_axes_are_split():
    found = specs((), a=(6, 4), b=(5, 4), c=(7, 9), d=(), e=(2, 8, 3)).params
    assert found["a"] == P("fsdp", "tensor")
    assert found["b"] == P(None, "fsdp")
    assert found["c"] == P(None, None)
    assert found["d"] == P()
    assert found["e"] == P("tensor", "fsdp", None)


def test_a_statistic_of_another_shape_than_its_parameter_has_no_rule():
    """It would not have the rule's axes, though it may have their number."""
    leaf = jax.ShapeDtypeStruct((6, 5), jnp.float32)
    rows = {"0": {"v_row": {"x/attention/kernel": leaf}}}
    kernel = {"x/attention/kernel": jax.ShapeDtypeStruct((4, 6), jnp.float32)}
    state = TrainState(step=leaf, rng=leaf, params=kernel, collections={}, opt_state=rows, ema={})
    found = Jit(make_mesh("data=1,fsdp=2,tensor=2"), RULES).shardings(state).opt_state["0"]
    assert found["v_row"]["x/attention/kernel"].spec == P("fsdp", None)


def test_the_rest_of_the_state_is_whole_everywhere():
    found = specs((), a=(8, 8))
    assert found.step == found.rng == found.collections["statistics"]["a"] == P()


def test_nothing_is_split_without_an_fsdp_axis():
    assert specs((), "data=-1", a=(8, 8)).params["a"] == P(None, None)


def test_a_rule_that_does_not_divide_is_refused():
    with pytest.raises(GenaxError, match=r"params/x/attention/kernel .* 5 is no multiple of 2"):
        specs(RULES, x__attention__kernel=(5, 4))


def test_strategies():
    jit = make_strategy({"strategy": "jit", "mesh": "data=2,fsdp=2,tensor=1"})
    assert isinstance(jit, Jit)
    assert jit.shards == 4
    assert make_strategy({"strategy": "jit", "mesh": "data=2,tensor=2"}).shards == 2
    pmap = make_strategy({"strategy": "pmap", "mesh": ""})
    assert isinstance(pmap, Pmap)
    assert pmap.shards == 4
    with pytest.raises(GenaxError, match="neither jit nor pmap"):
        make_strategy({"strategy": "xmap", "mesh": ""})


@pytest.mark.parametrize(
    "parallel",
    [
        {"strategy": "jit", "mesh": "data=2,fsdp=2"},
        {"strategy": "pmap", "mesh": ""},
    ],
)
def test_a_state_is_created_where_it_belongs(parallel):
    """With the same values as on one device."""
    strategy, task = make_strategy(parallel), line_task(ema={"line": 0.9})
    state = create(lambda: line_state(task), strategy)
    places = jax.tree.leaves(strategy.shardings(state))
    for leaf, place in zip(jax.tree.leaves(state), places, strict=True):
        assert leaf.sharding.is_equivalent_to(place, leaf.ndim)
    for mine, other in zip(
        jax.tree.leaves(state), jax.tree.leaves(jax.jit(lambda: line_state(task))()), strict=True
    ):
        np.testing.assert_allclose(mine, other, rtol=1e-6)


@pytest.mark.parametrize("stacked", [False, True])
def test_batches_are_split_over_the_devices(stacked):
    batch = {"x": np.arange(48, dtype=np.float32).reshape((2, 8, 3) if stacked else (16, 3))}
    axis = 1 if stacked else 0
    for parallel in (
        {"strategy": "jit", "mesh": "data=2,fsdp=2"},
        {"strategy": "pmap", "mesh": ""},
    ):
        placed = make_strategy(parallel).put(batch, stacked)["x"]
        if parallel["strategy"] == "pmap":
            assert placed.shape[axis] == 4
        rows = [tuple(shard.data.reshape(-1, 3)[0].tolist()) for shard in placed.addressable_shards]
        assert len(set(rows)) == 4
        np.testing.assert_array_equal(np.asarray(placed).reshape(batch["x"].shape), batch["x"])
