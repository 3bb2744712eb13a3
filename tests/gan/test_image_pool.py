"""The pool of earlier fakes: CycleGAN's, one at a time, and for whole batches."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, init_state
from genax.gan.image_pool import POOL, check_pool, pooled
from tests.gan.test_cycle_gan import ELEMENT, cycle_task

SIZE = 4


class Nothing(nn.Module):
    """Networks of a task that has none."""


@jax.jit
def queried(state, images, index, key):
    def query(nets, batch):
        return pooled(nets, batch, "fakes", batch["images"], SIZE)

    batch = {"images": images, "index": index}
    if not state:
        state = nn.init(query, Nothing())({"params": key, "example": key}, batch)
    return nn.apply(query, Nothing(), mutable=[POOL])(state, batch, rngs={"example": key})


def run(batches: int, size: int):
    """Yield the pool before, the new images, what is returned, and the pool after."""
    state, number = {}, 0
    for step in range(batches):
        images = jnp.arange(number, number + size, dtype=jnp.float32)[:, None, None, None]
        before = np.array(state[POOL]["fakes"])[:, 0, 0, 0] if state else np.zeros(SIZE)
        found, state = queried(state, images, jnp.arange(size), jax.random.key(step))
        after = np.array(state[POOL]["fakes"])[:, 0, 0, 0]
        yield before, np.array(images)[:, 0, 0, 0], np.array(found)[:, 0, 0, 0], after
        number += size


def test_it_fills_first_and_then_exchanges_every_second_image():
    kept = swapped = 0
    slots = set()
    for step, (before, (new,), (found,), after) in enumerate(run(400, 1)):
        if step < SIZE:
            assert found == new
            assert after[step] == new
            continue
        changed = np.flatnonzero(before != after)
        if len(changed) == 0:
            assert found == new
            kept += 1
            continue
        (slot,) = changed
        assert (after[slot], found) == (new, before[slot])
        slots.add(int(slot))
        swapped += 1
    assert slots == set(range(SIZE))
    assert abs(kept - swapped) < 80  # four deviations of 396 coins


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_batch_loses_no_image_and_returns_none_twice(size):
    for step, (before, new, found, after) in enumerate(run(60, size)):
        seen = [*new, *(before if step * size >= SIZE else before[: step * size])]
        assert len(set(found)) == size
        assert set(found) <= set(seen)
        if step * size >= SIZE:
            assert sorted([*found, *after]) == sorted(seen)
        else:
            np.testing.assert_array_equal(found, new)


def test_parts_of_a_batch_write_what_the_whole_would():
    """Each part from the same beginning; their changes add up."""
    _, state = queried({}, jnp.ones((4, 1, 1, 1)), jnp.arange(4), jax.random.key(0))
    images = jnp.arange(2.0, 6.0)[:, None, None, None]
    key = jax.random.key(3)
    whole, after = queried(state, images, jnp.arange(4), key)
    parts = [queried(state, images[p], jnp.arange(4)[p], key) for p in (slice(2), slice(2, 4))]
    np.testing.assert_array_equal(jnp.concatenate([found for found, _ in parts]), whole)
    old = state[POOL]["fakes"]
    added = old + sum(new[POOL]["fakes"] - old for _, new in parts)
    np.testing.assert_array_equal(added, after[POOL]["fakes"])
    assert (whole != images).any()


def test_a_pool_of_one_is_enough_for_a_batch_of_one():
    task = cycle_task(pool_size=1)
    state = jax.eval_shape(lambda: init_state(task, 0, ELEMENT))
    assert state.collections[POOL]["fakes_a"].shape[0] == 1


def test_a_pool_that_holds_less_than_a_batch_is_refused():
    with pytest.raises(GenaxError, match="a pool of 3 images holds less than a batch of 4"):
        check_pool(3, 4)
    check_pool(0, 4)
    check_pool(1000, 4)
