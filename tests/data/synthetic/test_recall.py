"""Selective copying and induction heads: what a record is, and that it is always the same."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from genax.core import GenaxError
from genax.core.data import Data, Shard
from genax.data.shuffling import random_bits, random_numbers
from genax.data.synthetic.induction_heads import InductionHeads
from genax.data.synthetic.selective_copying import SelectiveCopying

COPYING = SelectiveCopying(length=20, num_tokens=5, vocab_size=7, size=1_000)
INDUCTION = InductionHeads(length=12, vocab_size=6, size=1_000)
COPYING_7 = [*[0] * 5, 3, 0, 5, 0, 5, 0, 0, 1, *[0] * 5, 5, 0, *[6] * 5]
INDUCTION_7 = [[2, 4, 4, 5, 4, 1, 2, 0, 0, 1, 0, 5], [2, 5, 1, 3, 0, 0, 2, 1, 2, 1, 0, 5]]
both = pytest.mark.parametrize("data", [COPYING, INDUCTION], ids=["copying", "induction"])


def records(data, count):
    return next(iter(data.evaluate(count, Shard())))


def test_copying_asks_for_the_data_tokens_in_their_order():
    batch = records(COPYING, 500)
    tokens, answers = batch["tokens"], batch["answers"]
    assert (tokens[:, 20:] == 6).all()
    for row, answer in zip(tokens[:, :20], answers, strict=True):
        assert row[row != 0].tolist() == answer.tolist()
    assert set(np.unique(answers)) == {1, 2, 3, 4, 5}


def test_data_tokens_stand_anywhere():
    """Every place is taken a quarter of the time, and neighbours know nothing of each other."""
    taken = records(COPYING, 1_000)["tokens"][:, :20] != 0
    assert np.abs(taken.mean(0) - 0.25).max() < 0.06
    joint = (taken[:, :-1] & taken[:, 1:]).mean()
    assert joint == pytest.approx(0.25 * 4 / 19, abs=0.006)


def test_induction_asks_for_what_followed_the_special_token():
    batch = records(INDUCTION, 1_000)
    tokens, answers = batch["tokens"], batch["answers"][:, 0]
    assert ((tokens == 5).sum(1) == 2).all()
    assert (tokens[:, -1] == 5).all()
    places = (tokens == 5).argmax(1)
    assert (tokens[np.arange(1_000), places + 1] == answers).all()
    assert set(places) == set(range(10))
    counts = np.bincount(answers, minlength=5)
    assert len(counts) == 5
    assert counts.min() > 150


def test_a_shortest_induction_head():
    tokens = records(InductionHeads(length=3, vocab_size=3, size=50), 50)["tokens"]
    assert (tokens[:, [0, 2]] == 2).all()
    assert set(tokens[:, 1]) == {0, 1}


@both
def test_a_record_is_a_function_of_its_number(data):
    batch = next(data.train(8, 3, Shard()))
    tokens, answers = data.make(batch["id"])
    assert (batch["tokens"] == tokens).all()
    assert (batch["answers"] == answers).all()
    assert isinstance(data, Data)
    for name, spec in data.element.items():
        assert batch[name].shape[1:] == spec.shape
        assert batch[name].dtype == spec.dtype


def test_records_never_change():
    """Resumed runs read the same, whatever the version of NumPy."""
    assert COPYING.make(np.array([7]))[0][0].tolist() == COPYING_7
    assert INDUCTION.make(np.array([7, 8]))[0].tolist() == INDUCTION_7


@both
def test_training_resumes_on_the_next_example(data):
    whole = list(islice(data.train(4, 1, Shard()), 6))
    resumed = data.train(8, 1, Shard())
    resumed.set_state({"examples": 8})
    later = np.concatenate([batch["tokens"] for batch in islice(resumed, 2)])
    assert (later == np.concatenate([batch["tokens"] for batch in whole[2:]])).all()


@both
def test_processes_share_a_batch(data):
    whole = next(data.train(8, 1, Shard()))
    parts = [next(data.train(8, 1, Shard(number, 2))) for number in range(2)]
    assert (np.concatenate([part["tokens"] for part in parts]) == whole["tokens"]).all()


def test_seeds_and_settings_have_other_fingerprints():
    sets = [
        COPYING,
        SelectiveCopying(length=20, num_tokens=5, vocab_size=7, size=1_000, seed=1),
        SelectiveCopying(length=21, num_tokens=5, vocab_size=7, size=1_000),
        INDUCTION,
    ]
    assert len({data.fingerprint() for data in sets}) == len(sets)
    assert not (records(sets[0], 9)["tokens"] == records(sets[1], 9)["tokens"]).all(1).any()


def test_an_endless_training_reads_no_record_twice():
    batches = islice(InductionHeads(length=4).train(512, 0, Shard()), 8)
    ids = np.concatenate([batch["id"] for batch in batches])
    assert len(set(ids.tolist())) == len(ids)


def test_random_numbers_are_even_and_independent_of_their_neighbours():
    bits = random_bits(np.arange(4_000), 4, 0)
    assert len(np.unique(bits)) == bits.size
    shares = [(bits >> np.uint64(place) & np.uint64(1)).mean() for place in range(64)]
    assert np.abs(np.array(shares) - 0.5).max() < 0.02
    numbers = random_numbers(np.arange(20_000), 2, 10, 0)
    table = np.histogram2d(numbers[:, 0], numbers[:, 1], bins=10)[0]
    assert ((table - 200) ** 2 / 200).sum() < 150  # 99 degrees of freedom
    records = np.histogram2d(numbers[:-1, 0], numbers[1:, 0], bins=10)[0]
    assert ((records - 200) ** 2 / 200).sum() < 150


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SelectiveCopying(length=8, num_tokens=9), "9 data tokens do not fit"),
        (lambda: SelectiveCopying(vocab_size=3), "config.vocab_size=4 or more"),
        (lambda: SelectiveCopying(num_tokens=0), "num_tokens=0"),
        (lambda: SelectiveCopying(size=0), "size=0"),
        (lambda: InductionHeads(vocab_size=2), "at least 3"),
        (lambda: InductionHeads(length=2), "at least 3"),
    ],
)
def test_what_cannot_be_asked_is_refused(make, words):
    with pytest.raises(GenaxError, match=words):
        make()
