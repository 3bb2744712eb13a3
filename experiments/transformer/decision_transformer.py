"""Chen et al. 2021, Decision Transformer: reinforcement learning via sequence modeling.

arXiv:2106.01345. A causal Transformer over returns-to-go, states and actions acts for the return
that it is asked for. Variants without a data set learn from CartPole or Pendulum, played by simple
rules with several amounts of noise. The score is what the agent achieves at several target
returns; "normalized" puts a random player at 0 and an expert at 100, as the paper's tables do.

    genax train experiments/transformer/decision_transformer.py --workdir runs/dt

On two cores, in five minutes: cpu, asked for 25, 100, 250, 500, achieves 230, 338, 478, 500;
pendulum, asked for -150, -500, -1000, -1500, achieves -224, -507, -1022, -1373; atari-cpu, asked
for the same as cpu, achieves 83, 112, 229, 164. It draws its actions, as the paper's agents for
Atari do.

The paper's variants read sets of TensorFlow Datasets. These are prepared on a machine with
TensorFlow (and h5py for D4RL's, apache-beam for Atari's). The agents act with "gymnasium[mujoco]"
or "gymnasium[atari,other]":

    genax data prepare tfds:d4rl_mujoco_hopper/v2-medium
    genax train experiments/transformer/decision_transformer.py:hopper --workdir runs/hopper

Paper (normalized): hopper 67.6, halfcheetah 42.6, breakout 267.5, pong 106.1, on one GPU. None of
these four has been trained here, so their time and score are not known.

Differences from the published code: windows end at every step, as in acting, and do not begin
there; environments are gymnasium's; Atari's episodes are RL Unplugged's, of one run of the DQN
replay; in acting, Atari's timestep is that of the window's first step, as in training.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from genax.core import Experiment, GenaxError, Phase, Stage, Task, tree
from genax.data import given_or
from genax.data.play.cartpole import draw_cartpole, lean
from genax.data.play.environments import make_environment
from genax.data.play.episodes import Rollouts, TfdsEpisodes
from genax.data.play.pendulum import swing_up
from genax.data.play.trajectories import TrajectoryData
from genax.nn.optimizers import check_decay, clip_by_norm
from genax.nn.placement import PARTITION_RULES
from genax.settings import NetworkSettings, Variant, start_from
from genax.settings.ranges import AMOUNT, COUNT, POSITIVE, Range
from genax.transformer.atari_decision_transformer import AtariDecisionTransformer
from genax.transformer.decision_transformer import DECISION_TRANSFORMER_PRESETS, DecisionTransformer
from genax.transformer.settings import RANGES as TRANSFORMER
from genax.transformer.settings import SHORT_RUN, network, sizes
from genax.transformer.tasks.acting import Networks, achieved_returns, action_loss
from genax.transformer.tasks.actions import continuous_actions, numbered_actions, one_hot_actions

DEFAULTS = SHORT_RUN | {
    "environment": "CartPole-v1",
    # A set of episodes; "" plays them by a rule.
    "data": "",
    # Probabilities of a random action; each plays so many episodes.
    "noises": (0.0, 0.2, 0.5, 1.0),
    "episodes": 50,
    # How much of a set is read; 0 is all.
    "transitions": 0,
    "clip_rewards": False,
    # The size of the pictures that the agent sees; 0 is states.
    "picture": 0,
    "state_size": 4,
    # What states are divided by; () standardises them.
    "scale": (2.4, 3.0, 0.2, 3.0),
    "action_size": 2,
    "continuous": False,
    # What returns are divided by.
    "return_scale": 500.0,
    "max_steps": 500,
    # Returns that are asked for in evaluation; () evaluates nothing.
    "targets": (25.0, 100.0, 250.0, 500.0),
    # The returns that are 0 and 100 in normalized scores; () leaves these out.
    "anchors": (),
    "eval_episodes": 10,
    # The most steps of an episode in evaluation; 0 is max_steps.
    "eval_limit": 0,
    "context": 20,
    # A run, or what `genax import` wrote, whose weights and sizes are taken; "" is none.
    "pretrained": "",
    "hidden_size": 64,
    "num_layers": 3,
    "num_heads": 1,
    # Rows of the trunk's own tables: see `DecisionTransformer`.
    "trunk_tables": (0, 0),
    "dropout": 0.1,
    # The rate rises for warmup_steps and falls until decay_steps; 0 keeps it.
    "learning_rate": 1e-3,
    "warmup_steps": 1,
    "decay_steps": 0,
    "weight_decay": 1e-4,
    "b2": 0.999,
    "clip": 0.25,
    "steps": 2_000,
    "sample_every": 0,
    "eval_batch_size": 40,
}
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


def agent_of_size(name):
    """Return the settings of an agent of the paper: tables 8 and 9, the rest by its code."""
    preset = DECISION_TRANSFORMER_PRESETS[name]
    settings = sizes(preset) | {
        "scale": (),
        "steps_per_call": 1,
        "parallel": {"topology": "v5e:2x2"},
    }
    if preset.state_size:
        return settings | GYM
    # Five epochs. The rate is warmed up over 512 * 20 actions. It decays over twice the tokens of
    # an epoch: a step has three, and the published code counts one of them, the action.
    epoch = ATARI["transitions"] // preset.batch_size
    lengths = {
        "steps": 5 * epoch,
        "warmup_steps": max(1, 512 * 20 // (preset.batch_size * preset.context)),
        "decay_steps": 6 * epoch,
        "checkpoint_every": epoch,
        "eval_every": epoch,
    }
    return settings | ATARI | lengths


VARIANTS = {
    "cpu": Variant("CartPole in minutes on two cores; needs gymnasium"),
    "smoke": Variant("the same for seconds, for tests; needs gymnasium", SMALL),
    "pendulum": Variant("continuous actions, in minutes on two cores; needs gymnasium", PENDULUM),
    "pendulum-smoke": Variant("the same for seconds, for tests; needs gymnasium", PENDULUM | SMALL),
    "atari-cpu": Variant(
        "Atari's network on pictures of CartPole, in minutes; needs gymnasium", PICTURES
    ),
    "atari-smoke": Variant(
        "the same for seconds, for tests; needs gymnasium", PICTURES | SMALL | {"batch_size": 16}
    ),
    "hopper": Variant("the paper's, on D4RL's hopper-medium-v2", agent_of_size("hopper")),
    "halfcheetah": Variant(
        "the paper's, on D4RL's halfcheetah-medium-v2", agent_of_size("halfcheetah")
    ),
    "breakout": Variant(
        "the paper's, on 500,000 steps of the DQN replay", agent_of_size("breakout")
    ),
    "pong": Variant("the paper's, on 500,000 steps of the DQN replay", agent_of_size("pong")),
}
RANGES = TRANSFORMER | {
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
    "damaged": ("refuse",),
    "remat": ("none",),
}
NETWORK = NetworkSettings(
    "agent",
    (DecisionTransformer, AtariDecisionTransformer),
    {"tanh_actions": "continuous", "num_actions": "action_size"},
    own=("stack",),
)
# As in the paper, only actions have a loss: the heads of states and returns are not trained.
TRAINED = ("agent/*embed*", "agent/blocks_*", "agent/final_norm", "agent/predict_action")
POLICIES = {"CartPole-v1": lean, "Pendulum-v1": swing_up}
STACK = 4


def data_of(config):
    """Return episodes of a set, or played here, as windows."""
    if config.data:
        source = TfdsEpisodes(
            config.data,
            action_size=config.action_size,
            limit=config.transitions or None,
            clip=config.clip_rewards,
            environment=config.environment if config.targets else "",
        )
    else:
        if config.environment not in POLICIES:
            raise GenaxError(
                f"config.environment={config.environment!r} has no rule to play it by; choose one "
                f"of {', '.join(POLICIES)}, or name recorded episodes in config.data."
            )
        source = Rollouts(
            config.environment,
            policy=POLICIES[config.environment],
            noises=tuple(config.noises),
            episodes=config.episodes,
        )
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
    return TrajectoryData(
        source,
        states=states,
        actions=actions,
        context=config.context,
        max_steps=config.max_steps,
        view=view,
        before=STACK - 1 if config.picture else 0,
    )


def agent_of(config):
    """Return the network, and the kind of its actions."""
    if config.picture:
        agent = network(
            AtariDecisionTransformer, config, num_actions=config.action_size, stack=STACK
        )
        return agent, numbered_actions()
    if len(config.trunk_tables) != 2:
        raise GenaxError(
            f"config.trunk_tables={tuple(config.trunk_tables)} are not two numbers of rows, of "
            "tokens and of positions."
        )
    agent = network(DecisionTransformer, config, tanh_actions=config.continuous)
    return agent, continuous_actions() if config.continuous else one_hot_actions(config.action_size)


def optimizer_of(config):
    """Return AdamW after clipping; as published, it decays all parameters for Gym, else kernels."""
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


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    data, _ = given_or(data, lambda: (data_of(config), None))
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
            observe=data.observe,
            element=data.element,
            actions=actions,
            targets=tuple(config.targets),
            episodes=config.eval_episodes,
            max_steps=config.max_steps,
            return_scale=config.return_scale,
            anchors=tuple(config.anchors) or None,
            limit=config.eval_limit or None,
        )
    loss = partial(action_loss, actions=actions, return_scale=config.return_scale)
    trained = TRAINED + (("agent/trunk_positions",) if any(config.trunk_tables) else ())
    task = Task(
        networks=Networks(agent=agent),
        stages=[Stage([Phase("agent", loss, trained, optimizer_of(config))])],
        evaluators=evaluators,
        rules=PARTITION_RULES,
    )
    return Experiment(task, data, pretrained=start_from(config, "agent"))
