"""Episodes, played and read from a set of TensorFlow Datasets made here; pictures of CartPole."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from genax.core import GenaxError
from genax.core.data import Shard
from genax.data.play.cartpole import draw_cartpole, lean
from genax.data.play.environments import make_environment
from genax.data.play.episodes import Rollouts, TfdsEpisodes, collect
from genax.data.play.pendulum import swing_up
from genax.data.play.trajectories import TrajectoryData
from tests.cli.command import call, succeed, train

LENGTHS = (6, 4, 5)
NAME = "tfds:d4rl_mujoco_hopper/v2-medium"


def episode(number: int, observation, action, dtype) -> dict:
    """Steps as D4RL's set has them: a dummy step at the end."""
    rng, length = np.random.default_rng(number), LENGTHS[number]
    last = np.arange(length + 1) == length
    taken = rng.integers(0, 4, length + 1)
    if action:
        taken = np.where(last[:, None], 0, rng.random((length + 1, *action))).astype(np.float32)
    return {
        "observation": (100 * rng.random((length + 1, *observation))).astype(dtype),
        "action": taken,
        "reward": np.where(last, 0, 1 + np.arange(length + 1)).astype(np.float32),
        "is_terminal": last,
        "is_first": np.arange(length + 1) == 0,
        "is_last": last,
        "discount": np.ones(length + 1, np.float32),
    }


class D4rlMujocoHopper(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The features of TFDS' own set, but for its metadata of a policy's weights."""

    VERSION = tfds.core.Version("1.2.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="v2-medium")]  # noqa: RUF012
    OBSERVATION, ACTION, DTYPE = (11,), (3,), np.float32
    url_infos = None  # TFDS would look for checksums, with a package that it does not declare

    def _info(self):
        action = np.int64
        if self.ACTION:
            action = tfds.features.Tensor(shape=self.ACTION, dtype=np.float32)
        steps = {
            "observation": tfds.features.Tensor(shape=self.OBSERVATION, dtype=self.DTYPE),
            "action": action,
            "reward": np.float32,
            "is_terminal": np.bool_,
            "is_first": np.bool_,
            "is_last": np.bool_,
            "discount": np.float32,
        }
        features = {"steps": tfds.features.Dataset(steps), "iteration": np.int32}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(len(LENGTHS)):
            steps = episode(number, self.OBSERVATION, self.ACTION, self.DTYPE)
            yield number, {"steps": steps, "iteration": number}


class RluAtari(D4rlMujocoHopper, skip_registration=True):
    """RL Unplugged's, its pictures as they are read."""

    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="Breakout_run_1")]  # noqa: RUF012
    OBSERVATION, ACTION, DTYPE = (84, 84, 1), (), np.uint8


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Both sets prepared, in the folder that TFDS looks into."""
    folder = tmp_path / "tfds"
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    for builder in (D4rlMujocoHopper, RluAtari):
        builder(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder


def by_length(episodes):
    return {len(episode.actions): episode for episode in episodes}


def windows(source, **fields):
    """All windows of D4RL's set."""
    spec = jax.ShapeDtypeStruct((11,), np.float32), jax.ShapeDtypeStruct((3,), np.float32)
    return TrajectoryData(source, *spec, context=3, max_steps=10, **fields)


def test_episodes_of_a_set(sets):
    found = by_length(TfdsEpisodes(NAME, 3).load())
    assert sorted(found) == sorted(LENGTHS)
    for number, length in enumerate(LENGTHS):
        expected = episode(number, (11,), (3,), np.float32)
        one = found[length]
        np.testing.assert_array_equal(one.states, expected["observation"][:-1])
        np.testing.assert_allclose(one.actions, expected["action"][:-1], rtol=1e-6)
        np.testing.assert_array_equal(one.rewards, 1 + np.arange(length))


def test_pictures_of_a_set(sets):
    found = by_length(TfdsEpisodes("tfds:rlu_atari/Breakout_run_1", 4, clip=True).load())
    for number, length in enumerate(LENGTHS):
        expected = episode(number, (84, 84, 1), (), np.uint8)
        one = found[length]
        np.testing.assert_array_equal(one.states, expected["observation"][:-1, ..., 0])
        np.testing.assert_array_equal(one.actions, expected["action"][:-1])
        np.testing.assert_array_equal(one.rewards, np.ones(length))


def test_part_of_a_set(sets):
    assert len(TfdsEpisodes(NAME, 3, limit=4).load()) == 1
    assert len(TfdsEpisodes(NAME, 3, limit=7).load()) == 2


def test_states_are_standardised(sets):
    data = windows(TfdsEpisodes(NAME, 3))
    (batch,) = data.evaluate(sum(LENGTHS), Shard())
    last = batch["states"][:, -1]
    np.testing.assert_allclose(last.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(last.std(0), 1, rtol=1e-5)
    raw = np.concatenate([one.states for one in TfdsEpisodes(NAME, 3).load()])
    np.testing.assert_allclose(data.observe(raw), last, rtol=1e-5, atol=1e-5)
    assert (batch["returns"][:, -1, 0] > 0).all()


def test_states_before_the_window(sets):
    data = windows(TfdsEpisodes(NAME, 3), view=np.asarray)
    (batch,) = replace(data, before=2).evaluate(sum(LENGTHS), Shard())
    (plain,) = data.evaluate(sum(LENGTHS), Shard())
    assert batch["states"].shape[1:] == (5, 11)
    np.testing.assert_array_equal(batch["states"][:, 2:], plain["states"])
    row = batch["timesteps"][:, -1].tolist().index(3)
    np.testing.assert_array_equal(batch["states"][row, 1], batch["states"][row - 3, -1])
    assert not batch["states"][row, 0].any()


@pytest.mark.long
def test_a_published_size_trains_on_a_set(sets, tmp_path):
    """Without an environment to act in; with one, it is looked for before any training."""
    file = "experiments/transformer/decision_transformer.py"
    small = {"hidden_size": 8, "num_layers": 1, "batch_size": 8}
    for variant in ("hopper", "breakout"):
        settings = small | {"context": 2, "num_heads": 1, "targets": "()", "eval_every": 0}
        succeed(*train(f"{file}:{variant}", tmp_path / variant, steps=2, **settings))
    if importlib.util.find_spec("mujoco") is None:
        result = call(*train(f"{file}:hopper", tmp_path / "acting", steps=2, **small))
        assert "gymnasium has no environment 'Hopper-v5' here" in result.refusal()


def test_clear_errors(sets):
    with pytest.raises(GenaxError, match="genax data prepare tfds:d4rl_mujoco_walker2d/v2-medium"):
        TfdsEpisodes("tfds:d4rl_mujoco_walker2d/v2-medium", 6).load()
    with pytest.raises(GenaxError, match="Pendulum-v1 has 1 actions, not 3"):
        TfdsEpisodes(NAME, 3, environment="Pendulum-v1").load()
    states = jax.ShapeDtypeStruct((17,), np.float32)
    with pytest.raises(GenaxError, match=r"states of .* have the shape \(11,\), not \(17,\)"):
        replace(windows(TfdsEpisodes(NAME, 3)), states=states).fingerprint()
    with pytest.raises(GenaxError, match="has 6 steps, more than max_steps=5"):
        replace(windows(TfdsEpisodes(NAME, 3)), max_steps=5).fingerprint()
    with pytest.raises(GenaxError, match="no environment 'CartPole-v99'"):
        make_environment("CartPole-v99")
    if importlib.util.find_spec("ale_py") is None:
        with pytest.raises(GenaxError, match="atari,other"):
            make_environment("ALE/Breakout-v5")


@pytest.mark.parametrize(
    ("name", "policy", "bounds"),
    [
        ("CartPole-v1", lean, {0.0: (500, 500), 0.5: (60, 250), 1.0: (15, 40)}),
        ("Pendulum-v1", swing_up, {0.0: (-200, -50), 0.5: (-800, -200), 1.0: (-1700, -900)}),
    ],
)
def test_noise_makes_play_worse(name, policy, bounds):
    for noise, (least, most) in bounds.items():
        returns = [one.rewards.sum() for one in collect(name, policy, noise, 20, 0)]
        assert least <= np.mean(returns) <= most, noise


def test_continuous_actions_are_scaled():
    [played] = Rollouts("Pendulum-v1", swing_up, (1.0,), 1).load()
    assert played.actions.shape == (200, 1)
    assert -1 <= played.actions.min() < -0.5 < 0.5 < played.actions.max() <= 1
    # The torque is in [-2, 2]: of a full one the cost is 0.001 * 2^2.
    environment = make_environment("Pendulum-v1")
    environment.reset(seed=0)
    environment.unwrapped.state = np.zeros(2)
    assert environment.step(np.ones(1, np.float32))[1] == pytest.approx(-0.004)


def test_pictures_of_cartpole():
    states = np.zeros((4, 4))
    states[1, 0], states[2, 2], states[3, 1] = 1.3, 0.2, 5.0
    middle, right, turned, fast = draw_cartpole(states, 84)
    assert middle.shape == (84, 84)
    np.testing.assert_array_equal(middle, middle[:, ::-1])
    np.testing.assert_array_equal(right[:, 21:], middle[:, :-21])
    assert turned[middle == 255].mean() < 200
    np.testing.assert_array_equal(fast, middle)
