"""What a run keeps once: written in one move, read back to the bit on any mesh."""

import jax.numpy as jnp
import pytest

from genax.core import GenaxError, init_state, tree
from genax.core.devices import abstract, create, make_strategy
from genax.running import fixed
from tests.contracts import latent

WHOLE = make_strategy({"strategy": "jit", "mesh": "data=-1"})
SPLIT = make_strategy({"strategy": "jit", "mesh": "data=2,fsdp=2"})


def initial(seed=0):
    return init_state(latent.make(), seed, latent.ELEMENT)


def test_it_comes_back_on_any_mesh(tmp_path):
    state = create(initial, SPLIT)
    digest = fixed.keep(state.fixed, tmp_path)
    assert digest == tree.digest(state.fixed)
    for strategy in (WHOLE, SPLIT):
        wanted = tree.flatten(abstract(initial, strategy).fixed)
        shapes = fixed.shapes(tmp_path)
        assert {path: leaf.dtype for path, leaf in shapes.items()} == {
            path: leaf.dtype for path, leaf in wanted.items()
        }
        found = fixed.load(tmp_path, wanted, digest)
        assert tree.digest(found) == digest
        for path, leaf in found.items():
            assert leaf.sharding.is_equivalent_to(wanted[path].sharding, leaf.ndim), path
    kernel = fixed.load(tmp_path, tree.flatten(abstract(initial, SPLIT).fixed), digest)[
        "params/encoder/MLP_0/Dense_0/kernel"
    ]
    assert kernel.dtype == jnp.bfloat16
    assert not kernel.sharding.is_fully_replicated


def test_it_is_written_once_and_others_are_refused(tmp_path):
    one, other = (create(lambda seed=seed: initial(seed), WHOLE).fixed for seed in (0, 1))
    digest = fixed.keep(one, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "fixed" / "state").rglob("*")}
    assert fixed.keep(one, tmp_path) == digest
    assert before == {path: path.stat().st_mtime_ns for path in before}
    with pytest.raises(GenaxError, match=r"fixed is not what this run keeps there.*remove it or"):
        fixed.keep(other, tmp_path)


def test_what_a_killed_run_left_half_is_removed(tmp_path):
    half = tmp_path / "fixed.orbax-checkpoint-tmp" / "state"
    half.mkdir(parents=True)
    (half / "manifest.ocdbt").write_bytes(b"half")
    fixed.keep(create(initial, WHOLE).fixed, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["fixed"]
