"""Settings that every experiment has."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import jax.numpy as jnp
from ml_collections import ConfigDict

from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE, Range, Ranges

T = TypeVar("T")

# Of the settings of `base_config`.
RANGES: Ranges = {
    "steps": COUNT,
    "batch_size": COUNT,
    "seed": Range(least=0, most=2**32 - 1),
    "steps_per_call": COUNT,
    "accumulate": COUNT,
    "dtype": ("float32", "bfloat16", "float16"),
    "log_every": AMOUNT,
    "checkpoint_every": AMOUNT,
    "checkpoint_minutes": NOT_NEGATIVE,
    "keep": COUNT,
    "keep_every": AMOUNT,
    "sample_every": AMOUNT,
    "num_samples": AMOUNT,
    "eval_every": AMOUNT,
    "eval_batch_size": COUNT,
    "damaged": ("refuse", "skip"),
    "parallel.strategy": ("jit", "pmap"),
}


@dataclass(frozen=True)
class Variant:
    """A row of an experiment's table `VARIANTS`.

    what: one line that says what it is.
    settings: the values that differ from the experiment's `DEFAULTS`.
    """

    what: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def from_config(make: Callable[..., T], config: ConfigDict, **own: Any) -> T:
    """Call `make` with the settings that its parameters are named after.

    make: a Linen module, another dataclass, or a function.
    config: settings; "dtype" becomes the type of that name.
    own: arguments that no setting is named after, or that differ from it.
    """
    # Every Linen module also has these two fields.
    names = inspect.signature(make).parameters.keys() - {"name", "parent"}
    arguments = {name: config[name] for name in names if name in config} | own
    if "dtype" in arguments:
        arguments["dtype"] = jnp.dtype(arguments["dtype"])
    return make(**arguments)


def base_config(**settings: Any) -> ConfigDict:
    """The loop's settings with their defaults, plus an experiment's own `settings`.

    steps: bounds the run. batch_size: global.
    steps_per_call: optimizer steps in one dispatch, as a loop in one program. On a CPU the loop is
    left out for a step that XLA would slow down in it (see `genax.running.dispatch`).
    accumulate: microbatches a step. remat: what the backward pass computes again instead of keeping
    it: "none", "full", or a policy (see `genax.nn.rematerialise`).
    dtype: of the computation; parameters stay float32.
    eval_batch_size: how many examples of a score, or samples, are on the devices at a time.
    *_every: in steps; 0 is never (the end always checkpoints, samples and evaluates).
    checkpoint_minutes: since the last checkpoint, by the first process's clock, which several
    processes look at when they log; 0 is never.
    keep: how many of the newest checkpoints stay. keep_every: so does the first at or after each
    multiple of these steps. keep_best: so does the best by a metric, "METRIC:min" or "METRIC:max";
    each due checkpoint is then scored first if the metric is "eval/...", and one that a signal
    asked for is not.
    damaged: what is done with a file or line of a user's own data that cannot be read: "refuse", or
    "skip" to leave it out and count it.
    profile: "FIRST:LAST", steps to trace under WORKDIR/profile. compile_cache: keep compiled
    programs for the next run in $JAX_COMPILATION_CACHE_DIR or ~/.cache/genax/compiled.
    parallel.strategy: "jit" or "pmap"; parallel.mesh: axis sizes (data, fsdp, sequence, tensor), -1
    takes what is left; parallel.topology: the TPU slice that `genax compile` is to try, such as
    "v5e:4x4".
    """
    config = ConfigDict(
        {
            "steps": 1000,
            "batch_size": 64,
            "seed": 0,
            "steps_per_call": 1,
            "accumulate": 1,
            "dtype": "float32",
            "remat": "none",
            "log_every": 20,
            "checkpoint_every": 500,
            "checkpoint_minutes": 0.0,
            "keep": 3,
            "keep_every": 0,
            "keep_best": "",
            "sample_every": 500,
            "num_samples": 64,
            "eval_every": 0,
            "eval_batch_size": 250,
            "damaged": "refuse",
            "parallel": {"strategy": "jit", "mesh": "data=-1,fsdp=1,tensor=1", "topology": ""},
            "wandb": "",
            "profile": "",
            "compile_cache": True,
        }
    )
    config.update(ConfigDict(settings))
    return config.lock()
