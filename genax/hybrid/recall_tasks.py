"""The tasks that ask for tokens at the end of a sequence, and the settings of such experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from genax.core import Evaluator, Experiment, GenaxError, Phase, Sampler, Stage, Task
from genax.core.task import Batch
from genax.data import given_or
from genax.data.synthetic.recall import RecallData
from genax.hybrid.mamba import Mamba
from genax.hybrid.mamba2 import Mamba2
from genax.hybrid.optimizers import at_most
from genax.hybrid.placement import MAMBA2_RULES, MAMBA_RULES, S4D_RULES
from genax.hybrid.recall import answer, as_answers, check_recall, recall_loss, recall_scores
from genax.hybrid.s4d import S4D
from genax.hybrid.settings import STATES
from genax.nn.optimizers import adamw, warmup_constant
from genax.nn.placement import PARTITION_RULES
from genax.settings import from_config
from genax.settings.ranges import AMOUNT, COUNT, Ranges
from genax.transformer.llama import LLaMA
from genax.transformer.networks import Networks
from genax.transformer.settings import RANGES as TRANSFORMER
from genax.transformer.settings import SHORT_RUN

RECURRENT: Mapping[str, Callable[..., Any]] = {"mamba": Mamba, "mamba2": Mamba2, "s4d": S4D}
RULES = {
    "mamba": MAMBA_RULES,
    "mamba2": MAMBA2_RULES,
    "s4d": S4D_RULES,
    "attention": PARTITION_RULES,
}

# Gu & Dao 2023, appendix E.1: two layers of width 64, and Adam at a constant rate.
DEFAULTS: dict[str, Any] = {
    **SHORT_RUN,
    # What mixes the tokens: "mamba", "mamba2", "s4d" or "attention".
    "model": "mamba",
    "vocab_size": 16,
    "hidden_size": 64,
    "num_layers": 2,
    # Of state spaces: states of a channel, and channels of one of Mamba-2's heads.
    "state_size": 16,
    "head_dim": 32,
    # Of attention: heads, the width of the feed-forward network, and positions, of which 0 is as
    # many as the longest sequence has tokens.
    "num_heads": 8,
    "mlp_size": 256,
    "positions": 0,
    "scan_layers": False,
    # The learning rate rises for warmup_steps and is constant then.
    "learning_rate": 1e-3,
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "clip": 1.0,
    # Test sequences, which no training reads.
    "evaluated": 1_000,
    # Tokens that the recurrent form reads at a time.
    "read_at_a_time": 256,
    # The recurrent form is scored on sequences of so many tokens, and of twice as many, up to
    # `longest`; 0 is none.
    "shortest": 64,
    "longest": 0,
    "log_every": 100,
    "num_samples": 8,
    "eval_batch_size": 8,
}
# Settings of the other networks.
MAMBA2 = {"model": "mamba2", "state_size": 64}
DIAGONAL = {"model": "s4d", "state_size": 64}
ATTENTION = {"model": "attention", "hidden_size": 128, "read_at_a_time": 64}
RANGES: Ranges = {
    **TRANSFORMER,
    "model": tuple(RULES),
    "state_size": STATES,
    "read_at_a_time": COUNT,
    "evaluated": COUNT,
    "shortest": AMOUNT,
    "longest": AMOUNT,
    "num_tokens": COUNT,
    "length": COUNT,
}


def experiment(config: ConfigDict, make: Callable[..., RecallData], data: Any = None) -> Experiment:
    """Return the experiment of answering at the end of a sequence.

    config: settings, those of `DEFAULTS` among them.
    make: the data's class.
    data: see `given_or`.
    """
    own = from_config(make, config, seed=0)
    train, test = given_or(data, lambda: (own, replace(own, seed=1, size=config.evaluated)))
    decoder = network(config, max(own.total, config.longest))
    for one in (train, test):
        check_recall(decoder, one)
    schedule = from_config(warmup_constant, config, peak=config.learning_rate)
    optimizer = from_config(adamw, config, learning_rate=schedule, b2=0.999)
    optimizer = at_most(optimizer, config.learning_rate)
    task = Task(
        networks=Networks(decoder),
        stages=[Stage([Phase("decoder", recall_loss, ("decoder",), optimizer)])],
        samplers={"answers": Sampler(answer, as_answers, partial(questions, own))},
        evaluators={
            "test": Evaluator(partial(recall_loss, train=False)),
            **scores_by_length(config, replace(own, seed=1), decoder),
        },
        rules=RULES[config.model],
    )
    return Experiment(task, train, test)


def network(config: ConfigDict, longest: int) -> Any:
    """Return the network of `config.model`. longest: tokens that it has to read."""
    if config.model in RECURRENT:
        return from_config(RECURRENT[config.model], config)
    # Its heads share the width.
    return from_config(LLaMA, config, head_dim=None, context=config.positions or longest)


def scores_by_length(config: ConfigDict, data: RecallData, decoder: Any) -> dict[str, Evaluator]:
    """Return the scores of the recurrent form on sequences of each length, by name.

    Raises GenaxError for a longest length below the shortest.
    """
    length, longest, found = config.shortest, config.longest, {}
    if 0 < longest < length or (longest and not length):
        raise GenaxError(
            f"config.shortest={length} and config.longest={longest} name no length; lengths are "
            "the shortest, which is at least 1, times powers of two up to the longest."
        )
    while length <= longest:
        one = replace(data, length=length)
        found[f"length_{length}"] = recall_scores(one, decoder, config.read_at_a_time)
        length *= 2
    return found


def questions(data: RecallData, num: int, workdir: Any) -> Batch:
    """Return sequences of a third seed, which no training and no test reads."""
    tokens, answers = replace(data, seed=2).make(np.arange(num))
    return {"tokens": tokens.astype(np.int32), "answers": answers.astype(np.int32)}
