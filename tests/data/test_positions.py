"""Every kind of data goes on at the next example, in batches of another size too."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType

import jax
import numpy as np
import pytest

from genax.core.data import Shard
from genax.data import ImageData, Joined, TextData
from genax.data.binarised import Binarised
from genax.data.fields import Label, Text
from genax.data.play.episodes import Episode
from genax.data.play.trajectories import TrajectoryData
from genax.data.sets import catalogue
from genax.data.sets.catalogue import KnownSet
from genax.data.text.classified_text import ClassifiedText
from genax.data.text.sentence_pairs import SentencePairs


@dataclass(frozen=True)
class Walks:
    """Two short episodes."""

    name = "walks"

    def load(self):
        states = [np.arange(n, dtype=np.float32)[:, None] for n in (5, 8)]
        return [Episode(s, np.zeros(len(s), np.int32), np.ones(len(s))) for s in states]


def documents():
    texts = ["".join(f"d{d} s{s} end.\n" for s in range(30)) for d in range(10)]
    return {"train": [{"text": text, "label": d % 2} for d, text in enumerate(texts)]}


@pytest.fixture
def reviews(monkeypatch):
    fields = {"text": Text(), "label": Label(2)}
    known = KnownSet("reviews", "ten reviews", "nobody", "CC0", {"train": 10}, fields, documents)
    monkeypatch.setattr(catalogue, "KNOWN", MappingProxyType({**catalogue.KNOWN, "reviews": known}))


STATE = jax.ShapeDtypeStruct((1,), np.float32)
ACTION = jax.ShapeDtypeStruct((), np.int32)
DATA = {
    "images": ImageData("digits", "train[:10]", flip=True),
    "binary": Binarised(ImageData("digits", "train[:10]", range=(0.0, 1.0)), "dynamic"),
    "text": TextData("reviews", "bytes", 8),
    "rows": ClassifiedText("reviews", 16, 120),
    "pairs": SentencePairs("reviews", 40, 120),
    "windows": TrajectoryData(Walks(), STATE, ACTION, context=3, max_steps=9),
}
DATA["joined"] = Joined(a=DATA["text"], b=DATA["windows"])


@pytest.mark.parametrize("name", DATA)
def test_a_position_is_a_number_of_examples(name, reviews):
    whole = DATA[name].train(1, 3, Shard())
    expected = [next(whole) for _ in range(28)]
    first = DATA[name].train(4, 3, Shard())
    for _ in range(3):
        next(first)
    state = json.loads(json.dumps(first.get_state()))
    assert state == {"examples": 12}
    second = DATA[name].train(8, 3, Shard())
    second.set_state(state)
    for start in (12, 20):
        batch = next(second)
        for key, array in batch.items():
            one_by_one = [one[key] for one in expected[start : start + 8]]
            np.testing.assert_array_equal(array, np.concatenate(one_by_one))
    assert second.get_state() == {"examples": 28}
