"""The experiments that ask at the end of a sequence: settings, refusals, and one that learns."""

from __future__ import annotations

import pytest

import genax
from genax.core import GenaxError
from genax.data.synthetic.induction_heads import InductionHeads
from genax.data.synthetic.selective_copying import SelectiveCopying

INDUCTION = "experiments/hybrid/induction_heads.py:smoke"


def built(data=None, path=INDUCTION, **settings):
    published = genax.load(path)
    return published.build(published.config(**settings), data)


def test_lengths_are_powers_of_two_times_the_shortest():
    evaluators = built(shortest=8, longest=40).task.evaluators
    assert list(evaluators) == ["test", "length_8", "length_16", "length_32"]
    assert [one.data.length for one in list(evaluators.values())[1:]] == [8, 16, 32]
    assert list(built(longest=0).task.evaluators) == ["test"]


def test_test_sequences_are_no_training_sequences():
    experiment = built()
    sets = [experiment.data, experiment.evaluation]
    sets += [one.data for one in experiment.task.evaluators.values() if one.data is not None]
    assert [data.seed for data in sets] == [0, *[1] * (len(sets) - 1)]
    assert experiment.data.size > 1e12
    assert experiment.evaluation.size == 64


def test_attention_has_a_position_for_the_longest_sequence():
    decoder = built(model="attention", longest=4_096).task.networks.decoder
    assert decoder.context == 4_096
    assert built(model="attention", longest=0).task.networks.decoder.context == 12


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shortest": 8, "longest": 7}, "shortest=8 and config.longest=7 name no length"),
        ({"shortest": 0}, "name no length"),
        ({"vocab_size": 2}, "config.vocab_size are at least 3"),
        ({"shortest": 2}, "have nothing to remember"),
        ({"model": "attention", "positions": 11}, "12 tokens exceed the 11 positions"),
        ({"model": "mamba2", "head_dim": 5}, "32 channels are not heads of 5"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(GenaxError, match=words):
        built(**settings)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (InductionHeads(length=12, vocab_size=7), "the data has 7 tokens, but the network 5"),
        (
            (
                InductionHeads(length=12, vocab_size=5),
                SelectiveCopying(length=12, num_tokens=3, vocab_size=6),
            ),
            "the data has 6 tokens",
        ),
    ],
)
def test_data_of_another_vocabulary_is_refused(data, words):
    with pytest.raises(GenaxError, match=words):
        built(data)


@pytest.mark.long
def test_a_network_learns_to_recall_at_any_length(tmp_path):
    """Trained on 12 tokens, right on 6 to 48; and answers are written out."""
    published = genax.load(INDUCTION)
    genax.train(published, tmp_path, {"steps_per_call": 1, "num_samples": 3, "longest": 0})
    scores = genax.open(tmp_path, config={"longest": 48}).evaluate()
    names = [f"length_{length}/accuracy" for length in (6, 12, 24, 48)]
    assert min(scores[name] for name in (*names, "test/accuracy")) > 0.9
    text = next((tmp_path / "samples").glob("answers_*.txt")).read_text()
    assert len(text.splitlines()) == 3
