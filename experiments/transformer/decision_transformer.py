"""Chen et al. 2021, Decision Transformer: reinforcement learning via sequence modeling.

arXiv:2106.01345. A causal Transformer over returns-to-go, states and actions, which acts for the
return that it is asked for. The cpu variant learns from CartPole played by a simple rule with
several amounts of noise; the score is what it achieves at several target returns.

    genax train experiments/transformer/decision_transformer.py --workdir runs/dt
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from genax.core import Experiment, Phase, Stage, Task, base_config
from genax.data.trajectories import TrajectoryData
from genax.transformer.acting import Networks, achieved_returns, action_loss
from genax.transformer.decision_transformer import DecisionTransformer
from genax.transformer.decoder import PARTITION_RULES
from genax.transformer.optim import adamw

VARIANTS = {
    "cpu": "CartPole in minutes on two cores; needs gymnasium",
    "smoke": "the same for seconds, for tests; needs gymnasium",
}
# As in the paper, the loss is of actions alone: the heads of states and returns stay as they are.
TRAINED = ("agent/*embed*", "agent/blocks_*", "agent/final_norm", "agent/predict_action")


def lean(state):
    """CartPole's action towards where the pole leans and turns; 500 steps without noise."""
    _, _, angle, turning = state
    return int(angle + 0.5 * turning > 0)


def get_config(variant="cpu"):
    """Settings of a variant; sizes of Chen et al. 2021, table 9, on a smaller scale.

    noises: probabilities of a random action, each for so many `episodes`. scale: of the states.
    return_scale: returns are divided by it. targets: returns asked for in evaluation.
    """
    config = base_config(
        environment="CartPole-v1",
        noises=(0.0, 0.2, 0.5, 1.0),
        episodes=50,
        scale=(2.4, 3.0, 0.2, 3.0),
        return_scale=500.0,
        max_steps=500,
        targets=(25.0, 100.0, 250.0, 500.0),
        eval_episodes=10,
        context=20,
        hidden_size=64,
        num_layers=3,
        num_heads=1,
        dropout=0.1,
        learning_rate=1e-3,
        weight_decay=1e-4,
        clip=0.25,
        batch_size=64,
        steps=2_000,
        steps_per_call=10,
        checkpoint_every=1_000,
        sample_every=0,
        eval_batch_size=40,
    )
    settings = {
        "cpu": {},
        "smoke": {
            "episodes": 3,
            "hidden_size": 16,
            "num_layers": 1,
            "context": 4,
            "eval_episodes": 1,
            "eval_batch_size": 4,
            "steps": 20,
        },
    }
    config.update(settings[variant])
    return config


def build(config):
    """The experiment that the settings describe."""
    data = TrajectoryData(
        config.environment,
        lean,
        tuple(config.noises),
        config.episodes,
        config.context,
        tuple(config.scale),
        config.max_steps,
    )
    agent = DecisionTransformer(
        state_size=len(config.scale),
        action_size=2,
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        max_steps=config.max_steps,
        activation=nn.relu,
        tanh_actions=False,
        dropout=config.dropout,
        dtype=jnp.dtype(config.dtype),
    )
    loss = partial(action_loss, return_scale=config.return_scale)
    optimizer = adamw(config.learning_rate, config.weight_decay, b2=0.999, clip=config.clip)
    acting = achieved_returns(
        config.environment,
        tuple(config.targets),
        config.eval_episodes,
        config.context,
        config.max_steps,
        tuple(config.scale),
        config.return_scale,
    )
    task = Task(
        Networks(agent),
        [Stage([Phase("agent", loss, TRAINED, optimizer)])],
        evaluators={"acting": acting},
        rules=PARTITION_RULES,
    )
    return Experiment(task, data, None)
