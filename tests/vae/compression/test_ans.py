"""The stack: what is pushed comes back in the opposite order, at its cost in bits."""

from __future__ import annotations

import numpy as np
import pytest

from genax.core.errors import GenaxError
from genax.vae.compression.ans import Stack
from genax.vae.compression.codes import Buckets, find_level, level_part, level_starts

RNG = np.random.default_rng(0)


def bits(stack):
    """What a stack holds more than an empty one."""
    grown = np.log2(stack.heads / Stack(stack.lanes).heads).sum()
    return grown + 32 * (len(stack.tail) - len(stack.borrowed))


@pytest.mark.parametrize("precision", [1, 12, 24])
@pytest.mark.parametrize("lanes", [1, 5])
def test_symbols_come_back_at_their_entropy(precision, lanes):
    levels = min(6, 1 << precision)
    log_masses = np.log(RNG.dirichlet(np.ones(levels), (150, lanes)))
    starts = level_starts(log_masses, precision)
    assert (np.diff(starts, axis=-1) > 0).all()
    assert (starts[..., 0] == 0).all()
    assert (starts[..., -1] == 1 << precision).all()
    shares = np.diff(starts, axis=-1) / (1 << precision)
    symbols = np.array(
        [[RNG.choice(levels, p=lane) for lane in row] for row in shares], dtype=np.int64
    )
    stack = Stack(lanes)
    for row, start in zip(symbols, starts, strict=True):
        stack.push(*level_part(start, row), precision)
    chosen = np.take_along_axis(shares, symbols[..., None], -1)
    assert bits(stack) == pytest.approx(-np.log2(chosen).sum(), rel=1e-3, abs=1e-3)
    stack = Stack.from_bytes(stack.to_bytes(), lanes)
    for row, start in zip(symbols[::-1], starts[::-1], strict=True):
        np.testing.assert_array_equal(stack.pop(find_level(start), precision), row)
    assert stack.is_empty
    assert not stack.tail


def test_popping_an_empty_stack_borrows_words_that_pushing_gives_back():
    buckets, stack = Buckets(), Stack(3)
    moments = [(RNG.normal(size=3), np.exp(RNG.normal(-1, 1, 3))) for _ in range(50)]
    drawn = [stack.pop(buckets.posterior(*one), buckets.precision) for one in moments]
    assert stack.borrowed
    assert not stack.is_empty
    for numbers, one in zip(drawn[::-1], moments[::-1], strict=True):
        stack.push(*buckets.part(numbers, *one), buckets.precision)
    assert stack.is_empty
    assert stack.tail == stack.borrowed[::-1]
    stack.tail[0] ^= 1
    assert not stack.is_empty


def test_popped_latents_are_drawn_from_their_posterior():
    buckets, stack = Buckets(bits=10), Stack(500)
    mean, deviation = np.full(500, 0.7), np.full(500, 0.2)
    find = buckets.posterior(mean, deviation)
    found = np.concatenate([stack.pop(find, buckets.precision) for _ in range(20)])
    values = buckets.values(found)
    assert values.mean() == pytest.approx(0.7, abs=0.01)
    assert values.std() == pytest.approx(0.2, abs=0.01)


def test_buckets_are_of_equal_mass_and_none_is_impossible():
    buckets = Buckets(bits=8, precision=16)
    every = np.arange(256)
    assert np.diff(buckets.values(every)).min() > 0
    assert buckets.values(every)[127] == pytest.approx(-buckets.values(every)[128])
    for mean, deviation in ((0.0, 1.0), (9.0, 1e-3), (-40.0, 5.0)):
        start, frequency = buckets.part(every, np.full(256, mean), np.full(256, deviation))
        assert frequency.min() >= 1
        assert (start[1:] == (start + frequency)[:-1]).all()
        assert (start[0], start[-1] + frequency[-1]) == (0, 1 << 16)
    _, frequency = buckets.part(every, np.zeros(256), np.ones(256))
    assert set(frequency.tolist()) <= {255, 256, 257}


def test_a_stack_that_was_cut_off():
    with pytest.raises(GenaxError, match="2 lanes cannot have 17 bytes"):
        Stack.from_bytes(bytes(17), 2)
