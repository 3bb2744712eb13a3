"""Episodes as windows, and agents that act."""

import numpy as np
import pytest

from genax.core import GenaxError
from genax.core.data import Shard
from genax.data.trajectories import TrajectoryData, collect
from tests import experiments
from tests.cli.command import metrics, succeed, train

FILE = "experiments/transformer/decision_transformer.py"
SCALE = (2.0, 1.0, 1.0, 1.0)


def lean(state):
    return experiments.load(FILE).lean(state)


@pytest.fixture(scope="module")
def data():
    return TrajectoryData("CartPole-v1", lean, (0.5, 1.0), 2, 6, SCALE, 500)


def test_noise_makes_play_worse():
    means = [
        np.mean([len(e.rewards) for e in collect("CartPole-v1", lean, noise, 20, 0)])
        for noise in (0.0, 0.5, 1.0)
    ]
    assert means[0] == 500
    assert 60 < means[1] < 250
    assert means[2] < 40


def test_windows_end_at_every_step(data):
    batches = list(data.evaluate(64, Shard()))
    whole = {k: np.concatenate([b[k][b["mask"] > 0] for b in batches]) for k in batches[0]}
    episode = collect("CartPole-v1", lean, 0.5, 1, 0)[0]
    length = len(episode.actions)
    for last in (0, 3, length - 1):
        first = max(0, last - 5)
        count = last + 1 - first
        assert whole["real"][last].tolist() == [False] * (6 - count) + [True] * count
        np.testing.assert_array_equal(whole["timesteps"][last][-count:], np.arange(first, last + 1))
        np.testing.assert_array_equal(whole["returns"][last][-1], [length - last])
        np.testing.assert_allclose(
            whole["states"][last][-count:], episode.states[first : last + 1] / SCALE, rtol=1e-6
        )
        np.testing.assert_array_equal(
            whole["actions"][last][-count:], episode.actions[first : last + 1]
        )
        assert not whole["states"][last][:-count].any() or count == 6


def test_the_same_episodes_every_time(data):
    again = TrajectoryData("CartPole-v1", lean, (0.5, 1.0), 2, 6, SCALE, 500)
    other = TrajectoryData("CartPole-v1", lean, (0.5, 1.0), 2, 6, SCALE, 500, seed=1)
    assert data.fingerprint() == again.fingerprint() != other.fingerprint()


def test_what_cannot_be_played():
    with pytest.raises(GenaxError, match="no environment 'CartPole-v99'"):
        collect("CartPole-v99", lean, 0.0, 1, 0)
    long = TrajectoryData("CartPole-v1", lean, (0.0,), 1, 6, SCALE, 200)
    with pytest.raises(GenaxError, match="has 500 steps, more than max_steps=200"):
        long.fingerprint()


def test_an_agent_trains_and_acts(tmp_path):
    succeed(*train(f"{FILE}:smoke", tmp_path, steps=10))
    scores = metrics(tmp_path)[-1]
    achieved = [scores[f"eval/acting/return_{target}"] for target in (25, 100, 250, 500)]
    assert all(8 <= value <= 500 for value in achieved)
    assert -1 <= scores["eval/acting/rank_correlation"] <= 1
    again = succeed("eval", tmp_path, "--json").json
    assert again["acting/return_500"] == achieved[-1]
