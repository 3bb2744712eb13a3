"""Several sources in one batch: their orders, their ends, their position."""

from __future__ import annotations

import json

import numpy as np
import pytest

from genax.core.data import Shard
from genax.core.errors import GenaxError
from genax.data import ImageData, Joined

SHORT = ImageData("digits", "train[:7]")
LONG = ImageData("digits", "train[100:112]", size=4)


def take(data, count, batch_size=4, shard=None, seed=0):
    iterator = data.train(batch_size, seed, shard or Shard())
    return [next(iterator) for _ in range(count)]


def column(batches, name):
    return np.concatenate([batch[name] for batch in batches])


def test_batches_are_what_element_says():
    data = Joined(a=SHORT, b=LONG)
    (batch,) = take(data, 1)
    assert set(batch) == {*data.element, "id"}
    assert set(data.element) == {"a_image", "a_label", "b_image", "b_label"}
    for name, spec in data.element.items():
        assert batch[name].shape == (4, *spec.shape)
        assert batch[name].dtype == spec.dtype
    assert batch["id"].shape == (4, 2)


def test_each_source_has_an_order_of_its_own():
    both = column(take(Joined(a=SHORT, b=SHORT), 7), "id")
    assert not np.array_equal(both[:, 0], both[:, 1])
    alone = column(take(SHORT, 7), "id")
    assert not any(np.array_equal(both[:, side], alone) for side in (0, 1))
    # A third source, or another order of the sources, leaves the order of a source alone.
    more = column(take(Joined(c=LONG, b=SHORT, a=SHORT), 7), "id")
    np.testing.assert_array_equal(more[:, 2], both[:, 0])


def test_epochs_of_different_lengths():
    ids = column(take(Joined(a=SHORT, b=LONG), 21), "id")
    assert len(ids) == 7 * 12
    for side, size in ((0, 7), (1, 12)):
        for start in range(0, len(ids), size):
            assert sorted(ids[start : start + size, side]) == list(range(size))


@pytest.mark.parametrize("count", [2, 4])
def test_any_number_of_processes(count):
    data = Joined(a=SHORT, b=LONG)
    whole = take(data, 5)
    parts = [take(data, 5, shard=Shard(number, count)) for number in range(count)]
    for number, batch in enumerate(whole):
        for name, array in batch.items():
            joined = np.concatenate([part[number][name] for part in parts])
            np.testing.assert_array_equal(joined, array)


def test_a_position_goes_on_in_batches_of_another_size():
    data = Joined(a=SHORT, b=LONG)
    whole = column(take(data, 20, batch_size=1), "id")
    first = data.train(4, 0, Shard())
    for _ in range(3):
        next(first)
    state = json.loads(json.dumps(first.get_state()))
    assert state == {"examples": 12}
    second = data.train(8, 0, Shard())
    next(second)
    second.set_state(state)
    np.testing.assert_array_equal(next(second)["id"], whole[12:20])
    assert second.get_state() == {"examples": 20}


@pytest.mark.parametrize("count", [1, 2])
def test_evaluation_reads_everything_once(count):
    data = Joined(a=SHORT, b=LONG)
    shards = [list(data.evaluate(4, Shard(number, count))) for number in range(count)]
    assert {len(batches) for batches in shards} == {3}
    batches = [
        {name: np.concatenate([shard[k][name] for shard in shards]) for name in shards[0][0]}
        for k in range(3)
    ]
    ids, mask = column(batches, "id"), column(batches, "mask")
    for side, name, size in ((0, "a", 7), (1, "b", 12)):
        own = column(batches, f"{name}_mask")
        assert own.sum() == size
        assert sorted(ids[own > 0, side]) == list(range(size))
        assert np.all(mask >= own)
    assert mask.tolist() == [1] * 12
    # The shorter source begins again.
    assert ids[8:, 0].tolist() == [0, 1, 2, 3]


def test_pairs_come_in_one_order():
    small = ImageData("digits", "train[:7]", size=4, flip=True)
    batches = take(Joined(paired=True, a=SHORT, b=small), 7)
    ids = column(batches, "id")
    np.testing.assert_array_equal(ids[:, 0], ids[:, 1])
    np.testing.assert_array_equal(column(batches, "a_label"), column(batches, "b_label"))
    unequal = Joined(paired=True, a=SHORT, b=LONG)
    with pytest.raises(GenaxError, match=r"a, b of Joined.* differ in their numbers of records"):
        take(unequal, 7)
    with pytest.raises(GenaxError, match="differ in their numbers of records"):
        list(unequal.evaluate(4, Shard()))


def test_fingerprint_follows_sources_and_names():
    datas = [
        Joined(a=SHORT, b=LONG),
        Joined(b=SHORT, a=LONG),
        Joined(a=SHORT, b=SHORT),
        Joined(a=SHORT, b=SHORT, paired=True),
        Joined(a=SHORT),
    ]
    assert len({data.fingerprint() for data in datas}) == len(datas)
    assert Joined(a=SHORT, b=LONG).fingerprint() == datas[0].fingerprint()
    assert len({*datas, Joined(a=SHORT, b=LONG)}) == len(datas)


def test_a_source_may_be_joined_itself():
    (batch,) = take(Joined(a=Joined(x=SHORT, y=LONG), b=SHORT), 1)
    assert {"a_x_image", "a_y_image", "b_image"} <= set(batch)
    assert batch["id"].shape == (4, 3)


def test_refusals():
    with pytest.raises(GenaxError, match="has no sources"):
        Joined()
    twice = Joined(a=Joined(b=SHORT), a_b=SHORT)
    with pytest.raises(GenaxError, match="two sources of Joined have an array 'a_b_image'"):
        twice.element  # noqa: B018
