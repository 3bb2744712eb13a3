"""Windows of episodes, and agents that act."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.core.data import Shard
from genax.data.play.cartpole import lean
from genax.data.play.environments import make_environment
from genax.data.play.episodes import Rollouts, collect
from genax.data.play.trajectories import TrajectoryData
from genax.transformer.tasks.acting import Networks, achieved_returns
from genax.transformer.tasks.actions import Actions
from tests.cli.command import metrics, succeed, train

FILE = "experiments/transformer/decision_transformer.py"
SCALE = (2.0, 1.0, 1.0, 1.0)


def shrink(states):
    return states / SCALE


def windows(noises=(0.5, 1.0), episodes=2, max_steps=500, seed=0):
    source = Rollouts("CartPole-v1", lean, noises, episodes, seed)
    states, actions = jax.ShapeDtypeStruct((4,), np.float32), jax.ShapeDtypeStruct((), np.int32)
    return TrajectoryData(source, states, actions, 6, max_steps, shrink)


@pytest.fixture(scope="module")
def data():
    return windows()


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
    assert data.fingerprint() == windows().fingerprint() != windows(seed=1).fingerprint()


def test_what_cannot_be_learned_from():
    with pytest.raises(GenaxError, match="has 500 steps, more than max_steps=200"):
        windows((0.0,), 1, max_steps=200).fingerprint()


class Knower(nn.Module):
    """In place of an agent: what the rule reads in the newest state of a history, and the rest."""

    @nn.compact
    def __call__(self, returns, states, actions, timesteps, mask, train=False):
        self.param("unused", nn.initializers.zeros, ())
        return jnp.concatenate(
            [states, returns, timesteps[..., None].astype(jnp.float32), mask[..., None]], -1
        )


def achieved(choose, **settings):
    """Scores of a rule for actions, written over what `Knower` gives it."""
    data = windows()

    def cost(predicted, batch):
        raise AssertionError("nothing is trained here")

    def predict(agent, batch, train):
        parts = (batch[name] for name in ("returns", "states", "actions", "timesteps", "real"))
        return agent(*parts, train)

    evaluator = achieved_returns(
        lambda: make_environment("CartPole-v1"),
        data.observe,
        data.element,
        Actions(predict, cost, choose),
        **{"targets": (50.0, 500.0), "episodes": 2, "max_steps": 500, "return_scale": 10.0}
        | settings,
    )
    networks, batch = Networks(Knower()), {"index": jnp.arange(4)}
    variables = {"params": {"agent": {"unused": jnp.zeros(())}}}
    rngs = {"example": jax.random.key(0)}
    rows = nn.apply(evaluator.function, networks)(variables, batch, rngs=rngs)
    return evaluator.summarize(jax.device_get(rows))


def leaning(seen, keys):
    return (seen[:, 2] + 0.5 * seen[:, 3] > 0).astype(jnp.int32)


def test_a_perfect_agent_achieves_the_most():
    scores = achieved(leaning, anchors=(0.0, 250.0))
    assert scores["return_50"] == scores["return_500"] == 500
    assert scores["normalized_50"] == 200
    assert scores["rank_correlation"] == 0


def test_episodes_may_be_cut():
    assert achieved(leaning, limit=30)["return_500"] == 30


def test_an_agent_sees_what_is_still_to_come():
    """It gives up when the return asked for is there, told by returns or by timesteps."""

    def until_asked(seen, keys):
        left, step = 10 * seen[:, 4], seen[:, 5]
        return jnp.where((left > 0) & (step < 400), leaning(seen, keys), 0)

    scores = achieved(until_asked)
    assert 50 < scores["return_50"] < 80
    assert 400 < scores["return_500"] < 430
    assert scores["rank_correlation"] > 0.7


@pytest.mark.long
def test_an_agent_trains_and_acts(tmp_path):
    succeed(*train(f"{FILE}:smoke", tmp_path, steps=10))
    scores = metrics(tmp_path)[-1]
    found = [scores[f"eval/acting/return_{target}"] for target in (25, 100, 250, 500)]
    assert all(8 <= value <= 500 for value in found)
    assert -1 <= scores["eval/acting/rank_correlation"] <= 1
    again = succeed("eval", tmp_path, "--json").json
    assert again["acting/return_500"] == found[-1]


@pytest.mark.long
@pytest.mark.parametrize(
    ("variant", "name", "bounds"),
    [
        ("pendulum-smoke", "acting/return_-150", (-2000, 0)),
        ("atari-smoke", "acting/return_500", (8, 500)),
    ],
)
def test_other_agents_train_and_act(variant, name, bounds, tmp_path):
    """Continuous actions, and pictures."""
    succeed(*train(f"{FILE}:{variant}", tmp_path, steps=10))
    score = metrics(tmp_path)[-1][f"eval/{name}"]
    assert bounds[0] <= score <= bounds[1]
    assert succeed("eval", tmp_path, "--json").json[name] == score
