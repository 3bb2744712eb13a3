"""Checkpoints: what is saved comes back, and what does not fit is named."""

import jax
import jax.numpy as jnp
import optax
import pytest

from genax.core import GenaxError, Phase, tree
from genax.core.devices import abstract, create, make_strategy
from genax.running.checkpoint import Checkpoints, compare
from genax.running.policy import Keep
from tests.core.toys import line_state, line_task, noisy_error

WHOLE = make_strategy({"strategy": "jit", "mesh": "data=-1"})
RECORD = {"run": {}, "position": None}
SPLIT = make_strategy({"strategy": "jit", "mesh": "data=2,fsdp=2"})


def adam_task():
    return line_task(Phase("fit", noisy_error, ("line",), optax.adam(0.1)), ema={"line": 0.9})


def test_a_state_comes_back_on_any_mesh(tmp_path):
    task = adam_task()
    state = create(lambda: line_state(task, seed=3), WHOLE)
    checkpoints = Checkpoints(tmp_path, Keep(2))
    checkpoints.save(state, 5, {"run": {"a": 1}, "position": [2]})
    checkpoints.wait()
    assert checkpoints.steps == [5]
    assert checkpoints.record(5) == {"run": {"a": 1}, "position": [2]}
    for strategy in (WHOLE, SPLIT):
        like = abstract(lambda: line_state(task), strategy)
        restored = checkpoints.restore(5, like)
        assert jax.tree.structure(restored) == jax.tree.structure(state)
        assert tree.digest(restored) == tree.digest(state)
        for leaf, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(like), strict=True):
            assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)
    assert tree.digest(checkpoints.arrays(5)) == tree.digest(state)
    checkpoints.close()


def saved(workdir, *steps):
    checkpoints = Checkpoints(workdir, Keep(None))
    state = create(lambda: line_state(line_task()), WHOLE)
    for step in steps:
        checkpoints.save(state.replace(step=jnp.int32(step)), step, RECORD)
    checkpoints.close()
    return Checkpoints(workdir, keep=None)


@pytest.mark.parametrize("content", [None, b"{}"])
def test_a_checkpoint_without_its_record_is_damaged(content, tmp_path):
    """No checksums tell of it, as in a bucket or right after a kill."""
    checkpoints, folder = saved(tmp_path, 1, 2), tmp_path / "checkpoints" / "2"
    for path in folder.glob("checksums.*"):
        path.unlink()
    path = folder / "_CHECKPOINT_METADATA"
    path.write_bytes(content) if content else path.unlink()
    for reads in (checkpoints, Checkpoints(tmp_path, keep=None)):
        with pytest.raises(GenaxError) as error:
            reads.record(2)
        assert str(error.value) == (
            f"checkpoint {folder} is damaged (its record is missing); the one before is of step 1: "
            "add --from-step 1 to use it."
        )
    assert checkpoints.record(1) == RECORD


@pytest.mark.parametrize("content", ["[]", "{}", "3", '{"a": 1}', '{"a": [1]}', '{"a": ["b", 1]}'])
def test_a_damaged_listing_of_checksums(content, tmp_path):
    checkpoints = saved(tmp_path, 1)
    listing = tmp_path / "checkpoints" / "1" / "checksums.process_0.json"
    listing.write_text(content)
    with pytest.raises(GenaxError, match=r"damaged \(checksums.process_0.json is not readable\)"):
        checkpoints.record(1)


def test_the_newest_are_kept_and_later_ones_set_aside(tmp_path):
    state = create(lambda: line_state(line_task()), WHOLE)
    checkpoints = Checkpoints(tmp_path, Keep(3))
    for step in (1, 2, 3, 4):
        checkpoints.save(state.replace(step=jnp.int32(step)), step, RECORD)
    checkpoints.wait()
    assert checkpoints.steps == [2, 3, 4]
    moved = checkpoints.set_aside(after=2)
    assert [path.name for path in moved] == ["3", "4"]
    assert all(path.is_dir() for path in moved)
    assert checkpoints.steps == [2]
    # Their places are free again, and what was set aside stays when it happens twice.
    checkpoints.save(state.replace(step=jnp.int32(30)), 3, RECORD)
    checkpoints.wait()
    assert int(checkpoints.arrays(3)["step"]) == 30
    (again,) = checkpoints.set_aside(after=2)
    assert again not in moved
    assert again.is_dir()
    assert moved[0].is_dir()
    checkpoints.close()


def test_restoring_into_another_model_names_what_differs(tmp_path):
    def task(*networks):
        return line_task(
            *(Phase(name, noisy_error, ("line",), optax.adam(0.1)) for name in networks)
        )

    checkpoints = Checkpoints(tmp_path, Keep(1))
    checkpoints.save(create(lambda: line_state(task("a")), WHOLE), 1, RECORD)
    checkpoints.wait()
    with pytest.raises(GenaxError) as error:
        checkpoints.restore(1, abstract(lambda: line_state(task("b")), WHOLE))
    assert "opt_state/b/0/count is missing" in str(error.value)
    like = abstract(lambda: line_state(task("a", "b")), WHOLE)
    with pytest.raises(GenaxError, match="is of another model: opt_state/b/0/count is missing"):
        checkpoints.restore(1, like)
    checkpoints.close()


def test_compare():
    def leaf(*shape, dtype="float32"):
        return jax.ShapeDtypeStruct(shape, dtype)

    saved = {"a": leaf(2), "b": leaf(2), "c": leaf(3), "d": leaf(1)}
    wanted = {"a": leaf(2), "b": leaf(2, dtype="int32"), "c": leaf(3, 1), "e": leaf(1)}
    assert compare(saved, wanted) == [
        "e is missing",
        "d is surplus",
        "b is float32[2], not int32[2]",
        "c is float32[3], not float32[3, 1]",
    ]
    assert compare(saved, saved) == []
