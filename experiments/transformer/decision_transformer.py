"""Chen et al. 2021, Decision Transformer: reinforcement learning via sequence modeling.

arXiv:2106.01345. A causal Transformer over returns-to-go, states and actions, which acts for the
return that it is asked for. Variants without a data set learn from CartPole or Pendulum, played by
simple rules with several amounts of noise. The score is what the agent achieves at several target
returns; "normalized" puts a random player at 0 and an expert at 100, as the paper's tables do.

    genax train experiments/transformer/decision_transformer.py --workdir runs/dt

On two cores, in five minutes: cpu, asked for 25, 100, 250, 500, achieves 230, 338, 478, 500;
pendulum, asked for -150, -500, -1000, -1500, achieves -224, -507, -1022, -1373; atari-cpu, which
draws its actions as the paper's agents for Atari do, achieves 83, 112, 229, 164.

The paper's variants read sets of TensorFlow Datasets, which are prepared where TensorFlow is (and
h5py for D4RL's, apache-beam for Atari's), and act with "gymnasium[mujoco]" or "[atari,other]":

    genax data prepare tfds:d4rl_mujoco_hopper/v2-medium
    genax train experiments/transformer/decision_transformer.py:hopper --workdir runs/hopper

Paper (normalized): hopper 67.6, halfcheetah 42.6, breakout 267.5, pong 106.1, on one GPU. None of
these four has been trained here, so their time and score are not known.

Where it differs from the published code: windows end at every step, as they do in acting, rather
than begin there; environments are gymnasium's; Atari's episodes are RL Unplugged's, of one run of
the DQN replay, and in acting its timestep is that of the window's first step, as in training.
"""

from dataclasses import asdict
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from genax.core import Experiment, GenaxError, Phase, Stage, Task, base_config, tree
from genax.core.ranges import AMOUNT, COUNT, POSITIVE, Range
from genax.data.play.cartpole import draw_cartpole, lean
from genax.data.play.environments import make_environment
from genax.data.play.episodes import Rollouts, TfdsEpisodes
from genax.data.play.pendulum import swing_up
from genax.data.play.trajectories import TrajectoryData
from genax.nn.optimizers import check_decay, clip_by_norm
from genax.nn.placement import PARTITION_RULES
from genax.transformer.atari_decision_transformer import AtariDecisionTransformer
from genax.transformer.decision_transformer import DECISION_TRANSFORMER_PRESETS, DecisionTransformer
from genax.transformer.ranges import RANGES as TRANSFORMER
from genax.transformer.tasks.acting import Networks, achieved_returns, action_loss
from genax.transformer.tasks.actions import continuous_actions, numbered_actions, one_hot_actions

VARIANTS = {
    "cpu": "CartPole in minutes on two cores; needs gymnasium",
    "smoke": "the same for seconds, for tests; needs gymnasium",
    "pendulum": "continuous actions, in minutes on two cores; needs gymnasium",
    "pendulum-smoke": "the same for seconds, for tests; needs gymnasium",
    "atari-cpu": "Atari's network on pictures of CartPole, in minutes; needs gymnasium",
    "atari-smoke": "the same for seconds, for tests; needs gymnasium",
    "hopper": "the paper's, on D4RL's hopper-medium-v2",
    "halfcheetah": "the paper's, on D4RL's halfcheetah-medium-v2",
    "breakout": "the paper's, on 500,000 steps of the DQN replay",
    "pong": "the paper's, on 500,000 steps of the DQN replay",
}
RANGES = {
    **TRANSFORMER,
    "noises": Range(least=0, most=1),
    "episodes": COUNT,
    "transitions": AMOUNT,
    "picture": AMOUNT,
    "state_size": AMOUNT,
    "scale": Range(above=0, empty=True),
    "action_size": COUNT,
    "return_scale": POSITIVE,
    "max_steps": COUNT,
    "targets": Range(empty=True),
    "anchors": Range(empty=True),
    "eval_episodes": COUNT,
    "eval_limit": AMOUNT,
    "trunk_tables": AMOUNT,
    "remat": ("none",),
}
# As in the paper, the loss is of actions alone: the heads of states and returns stay as they are.
TRAINED = ("agent/*embed*", "agent/blocks_*", "agent/final_norm", "agent/predict_action")
POLICIES = {"CartPole-v1": lean, "Pendulum-v1": swing_up}
STACK = 4

# What variants change of "cpu".
SMALL = {
    "episodes": 3,
    "hidden_size": 16,
    "num_layers": 1,
    "num_heads": 2,
    "context": 4,
    "eval_episodes": 1,
    "eval_batch_size": 4,
    "steps": 20,
}
PENDULUM = {
    "environment": "Pendulum-v1",
    "noises": (0.0, 0.3, 0.6, 1.0),
    "state_size": 3,
    "scale": (1.0, 1.0, 8.0),
    "continuous": True,
    "action_size": 1,
    "return_scale": 1000.0,
    "max_steps": 200,
    "targets": (-150.0, -500.0, -1000.0, -1500.0),
}
PICTURES = {"picture": 84, "episodes": 10, "context": 5, "num_heads": 4, "batch_size": 32}
GYM = {
    "continuous": True,
    "return_scale": 1000.0,
    "trunk_tables": (1, 1024),
    "warmup_steps": 10_000,
    "steps": 100_000,
    "checkpoint_every": 10_000,
    "eval_every": 10_000,
    "eval_episodes": 100,
    "eval_batch_size": 200,
}
ATARI = {
    "picture": 84,
    "transitions": 500_000,
    "clip_rewards": True,
    "return_scale": 1.0,
    "eval_episodes": 10,
    "eval_limit": 27_000,
    "eval_batch_size": 10,
    "weight_decay": 0.1,
    "b2": 0.95,
    "clip": 1.0,
}


def published(name):
    """The settings of a size of the paper: tables 8 and 9, and the code where they are silent."""
    preset = DECISION_TRANSFORMER_PRESETS[name]
    settings = asdict(preset) | {"scale": (), "steps_per_call": 1}
    settings["parallel"] = {"topology": "v5e:2x2"}
    del settings["params"]
    if preset.state_size:
        return settings | GYM
    # Five epochs. The rate is warmed up over 512 * 20 actions, and decays over twice as many
    # tokens as an epoch has, three a step, of which the code counts the actions alone.
    epoch = ATARI["transitions"] // preset.batch_size
    lengths = {
        "steps": 5 * epoch,
        "warmup_steps": max(1, 512 * 20 // (preset.batch_size * preset.context)),
        "decay_steps": 6 * epoch,
        "checkpoint_every": epoch,
        "eval_every": epoch,
    }
    return settings | ATARI | lengths


def get_config(variant="cpu"):
    """Settings of a variant.

    data: a set of episodes; "" plays them, with noises: probabilities of a random action, each for
    so many `episodes`. transitions: how much of a set is read; 0 is all. picture: size of the
    pictures that the agent sees; 0 is states. scale: of the states; () standardises them.
    return_scale: returns are divided by it. targets: returns asked for in evaluation; () is none.
    anchors: returns that are 0 and 100. eval_limit: of an episode's steps; 0 is max_steps.
    """
    config = base_config(
        environment="CartPole-v1",
        data="",
        noises=(0.0, 0.2, 0.5, 1.0),
        episodes=50,
        transitions=0,
        clip_rewards=False,
        picture=0,
        state_size=4,
        scale=(2.4, 3.0, 0.2, 3.0),
        action_size=2,
        continuous=False,
        return_scale=500.0,
        max_steps=500,
        targets=(25.0, 100.0, 250.0, 500.0),
        anchors=(),
        eval_episodes=10,
        eval_limit=0,
        context=20,
        hidden_size=64,
        num_layers=3,
        num_heads=1,
        trunk_tables=(0, 0),
        dropout=0.1,
        learning_rate=1e-3,
        warmup_steps=1,
        decay_steps=0,
        weight_decay=1e-4,
        b2=0.999,
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
        "smoke": SMALL,
        "pendulum": PENDULUM,
        "pendulum-smoke": PENDULUM | SMALL,
        "atari-cpu": PICTURES,
        "atari-smoke": PICTURES | SMALL | {"batch_size": 16},
    }
    config.update(settings[variant] if variant in settings else published(variant))
    return config


def data_of(config):
    """Episodes of a set, or played here, as windows."""
    if config.data:
        source = TfdsEpisodes(
            config.data,
            config.action_size,
            config.transitions or None,
            config.clip_rewards,
            config.environment if config.targets else "",
        )
    else:
        if config.environment not in POLICIES:
            raise GenaxError(
                f"config.environment={config.environment!r} has no rule to play it by; choose one "
                f"of {', '.join(POLICIES)}, or name recorded episodes in config.data."
            )
        policy = POLICIES[config.environment]
        source = Rollouts(config.environment, policy, tuple(config.noises), config.episodes)
    view = None
    if config.picture:
        view = np.asarray if config.data else partial(draw_cartpole, size=config.picture)
    elif config.scale:
        if len(config.scale) != config.state_size:
            raise GenaxError(
                f"config.scale has {len(config.scale)} numbers for states of "
                f"{config.state_size}; it needs one for each, or none at all: ()."
            )
        view = partial(np.multiply, 1 / np.array(config.scale))
    states = jax.ShapeDtypeStruct((config.state_size,), np.float32)
    actions = jax.ShapeDtypeStruct((), np.int32)
    if config.picture:
        states = jax.ShapeDtypeStruct((config.picture,) * 2, np.uint8)
    if config.continuous:
        actions = jax.ShapeDtypeStruct((config.action_size,), np.float32)
    before = STACK - 1 if config.picture else 0
    return TrajectoryData(source, states, actions, config.context, config.max_steps, view, before)


def agent_of(config):
    """The network, and the kind of its actions."""
    shared = {
        "hidden_size": config.hidden_size,
        "num_layers": config.num_layers,
        "num_heads": config.num_heads,
        "max_steps": config.max_steps,
        "dropout": config.dropout,
        "dtype": jnp.dtype(config.dtype),
    }
    if config.picture:
        agent = AtariDecisionTransformer(
            num_actions=config.action_size, context=config.context, stack=STACK, **shared
        )
        return agent, numbered_actions()
    if len(config.trunk_tables) != 2:
        raise GenaxError(
            f"config.trunk_tables={tuple(config.trunk_tables)} are not two numbers of rows, of "
            "tokens and of positions."
        )
    agent = DecisionTransformer(
        state_size=config.state_size,
        action_size=config.action_size,
        activation=nn.relu,
        tanh_actions=config.continuous,
        trunk_tables=tuple(config.trunk_tables),
        **shared,
    )
    return agent, continuous_actions() if config.continuous else one_hot_actions(config.action_size)


def optimizer_of(config):
    """AdamW after clipping; as published, all parameters decay for Gym, and kernels for Atari."""
    if config.decay_steps:
        check_decay(config.warmup_steps, config.decay_steps)

    def rate(step):
        warm = jnp.minimum((step + 1) / max(1, config.warmup_steps), 1)
        if not config.decay_steps:
            return config.learning_rate * warm
        past = (step - config.warmup_steps) / (config.decay_steps - config.warmup_steps)
        cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(past, 0, 1)))
        return config.learning_rate * warm * jnp.maximum(cosine, 0.1)

    def kernels(params):
        return tree.map_by_path(lambda path, _: path.endswith("/kernel"), params)

    return optax.chain(
        clip_by_norm(config.clip),
        optax.adamw(
            rate,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=kernels if config.picture else None,
        ),
    )


def build(config):
    """The experiment that the settings describe."""
    data = data_of(config)
    agent, actions = agent_of(config)
    evaluators = {}
    if config.targets:
        if config.anchors and (len(config.anchors) != 2 or len(set(config.anchors)) != 2):
            raise GenaxError(
                f"config.anchors={tuple(config.anchors)} are not the two returns that count as 0 "
                "and 100."
            )
        evaluators["acting"] = achieved_returns(
            partial(make_environment, config.environment),
            data.observe,
            data.element,
            actions,
            tuple(config.targets),
            config.eval_episodes,
            config.max_steps,
            config.return_scale,
            tuple(config.anchors) or None,
            config.eval_limit or None,
        )
    loss = partial(action_loss, actions=actions, return_scale=config.return_scale)
    trained = TRAINED + (("agent/trunk_positions",) if any(config.trunk_tables) else ())
    task = Task(
        Networks(agent),
        [Stage([Phase("agent", loss, trained, optimizer_of(config))])],
        evaluators=evaluators,
        rules=PARTITION_RULES,
    )
    return Experiment(task, data, None)
