from __future__ import annotations

import numpy as np
import pytest

from genax.data.shuffling import (
    coin_flips,
    consecutive_numbers,
    generator,
    permute,
    record_numbers,
    uniforms,
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_permute_is_a_permutation(size):
    for epoch in range(3):
        assert sorted(permute(np.arange(size), size, 0, epoch)) == list(range(size))


def test_permutes_more_numbers_than_32_bits_hold():
    size = 10**12
    sent = permute(np.arange(5000), size, 0)
    assert len(set(sent.tolist())) == 5000
    assert sent.min() >= 0
    assert sent.max() < size
    assert abs(sent.mean() / size - 0.5) < 0.03


@pytest.mark.parametrize("size", [1000, 60_000, 4_500_000, 10**9])
def test_neighbours_are_not_correlated(size):
    sent = permute(np.arange(min(size, 4000)), size, 1, 2).astype(float)
    assert abs(np.corrcoef(sent[1:], sent[:-1])[0, 1]) < 0.06


def test_every_epoch_holds_every_record_once_in_a_new_order():
    size, epochs = 37, 5
    numbers = record_numbers(np.arange(size * epochs), size, seed=3).reshape(epochs, size)
    np.testing.assert_array_equal(np.sort(numbers, axis=1), [np.arange(size)] * epochs)
    assert len({tuple(row) for row in numbers.tolist()}) == epochs


def test_seeds_do_not_share_epochs():
    first = record_numbers(np.arange(200), 100, seed=0)
    second = record_numbers(np.arange(200), 100, seed=1)
    assert not np.array_equal(first[100:], second[:100])
    assert not np.array_equal(first[:100], second[:100])


def test_a_position_means_the_same_in_any_batch():
    positions = np.arange(90, 130)
    whole = record_numbers(positions, 100, seed=5)
    parts = [record_numbers(positions[start : start + 8], 100, seed=5) for start in range(0, 40, 8)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_the_order_is_pinned():
    """A change here would silently change the data of every run that is resumed."""
    assert record_numbers(np.arange(59_998, 60_003), 60_000, seed=0).tolist() == [
        58689,
        11090,
        16000,
        53221,
        33707,
    ]
    assert coin_flips(np.arange(8), seed=0).tolist() == [
        True,
        True,
        True,
        False,
        False,
        True,
        False,
        False,
    ]


def test_coin_flips_are_fair_and_independent_of_the_batch():
    flips = coin_flips(np.arange(10_000), seed=0)
    assert abs(flips.mean() - 0.5) < 0.02
    np.testing.assert_array_equal(flips[500:600], coin_flips(np.arange(500, 600), seed=0))


def test_generators_differ_by_position_and_seed():
    draws = {generator(p, seed).integers(1 << 60) for p in range(50) for seed in range(2)}
    assert len(draws) == 100
    assert generator(7, 1).random() == generator(7, 1).random()


@pytest.mark.parametrize("start", [0, 4090, 4096, 100_003])
@pytest.mark.parametrize("count", [1, 12, 9000])
def test_consecutive_numbers_are_record_numbers(start, count):
    numbers = consecutive_numbers(start, count, size=777, seed=2)
    positions = np.arange(start, start + count)
    np.testing.assert_array_equal(numbers, record_numbers(positions, 777, seed=2))


def test_uniforms_are_even_and_independent():
    drawn = uniforms(np.arange(2000), 100, 0, 1)
    assert drawn.dtype == np.float32
    assert drawn.min() >= 0
    assert drawn.max() < 1
    # Of 200,000: the shares of ten equal parts, whose deviation is 0.0007.
    shares = np.histogram(drawn, 10, (0, 1))[0] / drawn.size
    assert np.abs(shares - 0.1).max() < 0.004
    for one, other in ((drawn[1:], drawn[:-1]), (drawn[:, 1:], drawn[:, :-1])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.01
    assert len(np.unique(drawn[:, 0])) > 1990


def test_uniforms_belong_to_a_number():
    drawn = uniforms(np.array([5, 9, 5]), 7, 1)
    np.testing.assert_array_equal(drawn[0], drawn[2])
    np.testing.assert_array_equal(drawn[1:2, :3], uniforms(np.array([9]), 3, 1))
    assert not np.isin(drawn[0], drawn[1]).any()
    assert not np.isin(drawn, uniforms(np.array([5, 9, 5]), 7, 2)).any()
