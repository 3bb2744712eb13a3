from __future__ import annotations

import json

import numpy as np
import pytest

from genax.core.data import Shard
from genax.core.errors import GenaxError
from genax.data.pipeline import evaluation_batches, train_batches


def read(ids):
    return {"square": ids.astype(np.float32) ** 2}


def batches(number=0, count=1, size=53, seed=0, change=None):
    return train_batches(read, size, 12, seed, Shard(number, count), change)


def test_batches_hold_what_was_read_and_the_record_numbers():
    batch = next(batches())
    assert batch["id"].dtype == np.int64
    assert batch["id"].shape == (12,)
    np.testing.assert_array_equal(batch["square"], batch["id"].astype(np.float32) ** 2)


def test_epochs_cover_every_record_exactly_once_across_batches():
    iterator, size = batches(), 53
    ids = np.concatenate([next(iterator)["id"] for _ in range(size)])
    for epoch in range(12):
        here = ids[epoch * size : (epoch + 1) * size]
        assert sorted(here.tolist()) == list(range(size))


@pytest.mark.parametrize("count", [2, 4])
def test_shards_are_contiguous_parts_of_the_global_batch(count):
    whole = batches()
    shards = [batches(number, count) for number in range(count)]
    for _ in range(20):
        parts = [next(shard)["id"] for shard in shards]
        np.testing.assert_array_equal(next(whole)["id"], np.concatenate(parts))


def test_position_is_saved_and_resumes_on_the_next_example():
    iterator = batches()
    for _ in range(7):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = [next(iterator)["id"] for _ in range(5)]
    resumed = batches()
    next(resumed)
    resumed.set_state(state)
    for ids in expected:
        np.testing.assert_array_equal(next(resumed)["id"], ids)


def test_position_goes_on_in_batches_of_another_size():
    """On the next example, also if it lies within a batch of the new size."""

    def ids(iterator, count):
        return np.concatenate([next(iterator)["id"] for _ in range(count)])

    def train(size):
        return train_batches(read, 10, size, 3, Shard())

    whole, small = ids(train(1), 40), train(4)
    np.testing.assert_array_equal(ids(small, 3), whole[:12])
    large = train(8)
    large.set_state(small.get_state())
    np.testing.assert_array_equal(ids(large, 2), whole[12:28])


def test_position_of_an_earlier_version():
    """It counted batches."""
    iterator, resumed = batches(), batches()
    for _ in range(3):
        next(iterator)
    resumed.set_state({"next_index": 3})
    np.testing.assert_array_equal(next(resumed)["id"], next(iterator)["id"])


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 2), (2, 1)])
def test_position_resumes_on_another_number_of_processes(before, after):
    old = [batches(number, before) for number in range(before)]
    for _ in range(9):
        for iterator in old:
            next(iterator)
    states = [iterator.get_state() for iterator in old]
    assert all(state == states[0] for state in states)
    new = [batches(number, after) for number in range(after)]
    for iterator in new:
        iterator.set_state(states[0])
    for _ in range(3):
        expected = np.concatenate([next(iterator)["id"] for iterator in old])
        found = np.concatenate([next(iterator)["id"] for iterator in new])
        np.testing.assert_array_equal(found, expected)


def test_changes_are_drawn_from_positions_not_from_shards():
    def change(batch, positions):
        return {**batch, "position": positions}

    whole = batches(change=change)
    shards = [batches(number, 4, change=change) for number in range(4)]
    for k in range(4):
        parts = np.concatenate([next(shard)["position"] for shard in shards])
        np.testing.assert_array_equal(next(whole)["position"], parts)
        np.testing.assert_array_equal(parts, np.arange(12 * k, 12 * (k + 1)))


def test_seeds_give_different_orders():
    assert not np.array_equal(next(batches(seed=0))["id"], next(batches(seed=1))["id"])


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 8, 21])
def test_evaluation_reads_everything_once_and_masks_copies(count, size):
    shards = [list(evaluation_batches(read, size, 8, Shard(n, count))) for n in range(count)]
    assert len({len(shard) for shard in shards}) == 1
    ids = np.concatenate(
        [np.concatenate([shard[k]["id"] for shard in shards]) for k in range(len(shards[0]))]
    )
    mask = np.concatenate(
        [np.concatenate([shard[k]["mask"] for shard in shards]) for k in range(len(shards[0]))]
    )
    assert mask.dtype == np.float32
    assert ids[mask == 1].tolist() == list(range(size))
    assert len(ids) == -(-size // 8) * 8
    assert set(ids[mask == 0].tolist()) <= {size - 1}


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(GenaxError, match=r"batch of 12 does not divide by 5 processes"):
        batches(0, 5)


def test_an_empty_set_is_refused():
    with pytest.raises(GenaxError, match="no records"):
        batches(size=0)
    with pytest.raises(GenaxError, match="no records"):
        evaluation_batches(read, 0, 8, Shard())


def test_errors_of_the_reading_thread_arrive():
    def broken(ids):
        raise GenaxError("the disk is gone")

    with pytest.raises(GenaxError, match="the disk is gone"):
        next(train_batches(broken, 10, 2, 0, Shard()))
