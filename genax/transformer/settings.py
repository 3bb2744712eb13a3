"""Settings that experiments with Transformers share, and their ranges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, TypeVar

from ml_collections import ConfigDict

from genax.core.errors import GenaxError
from genax.nn.activations import ACTIVATIONS
from genax.nn.lora import RANGES as LORA
from genax.nn.optimizers import RANGES as OPTIMIZER
from genax.settings import from_config
from genax.settings.ranges import AMOUNT, COUNT, SHARE, Ranges
from genax.transformer import beam_search, decoding

T = TypeVar("T")

# The loop of a run that takes minutes on a CPU.
SHORT_RUN: dict[str, Any] = {
    "steps_per_call": 10,
    "checkpoint_every": 1_000,
    "sample_every": 1_000,
}
# The network of such a run, if it is a stack that reads tokens.
SMALL_STACK: dict[str, Any] = {
    # Tokens of a row.
    "context": 64,
    "hidden_size": 128,
    "num_layers": 3,
    # Whether one block is compiled and looped over.
    "scan_layers": False,
}
# And if it is a Transformer.
SMALL_NETWORK: dict[str, Any] = {**SMALL_STACK, "num_heads": 4}

# Fields of a preset that are no settings: it counts its parameters and the tokens of a batch.
COUNTS = ("params", "pretraining", "batch_tokens")


def sizes(preset: Any) -> dict[str, Any]:
    """Return the fields of a preset, a row of a family's table, that are settings."""
    return {name: value for name, value in asdict(preset).items() if name not in COUNTS}


def published(preset: Any, topology: str, mesh: str = "fsdp=-1") -> dict[str, Any]:
    """Return the settings with which a size of a paper is trained on TPUs.

    One block is compiled and recomputed in the backward pass; parameters are split over all chips.

    preset: see `sizes`.
    topology: a slice that the size fits (docs/scaling.md).
    mesh: the axes of the slice.
    """
    return {
        **sizes(preset),
        "scan_layers": True,
        "remat": "full",
        "dtype": "bfloat16",
        "steps_per_call": 1,
        "parallel": {"topology": topology, "mesh": mesh},
    }


def network(make: Callable[..., T], config: ConfigDict, **own: Any) -> T:
    """Build a network with the settings that its fields are named after, as `from_config` does.

    "activation" is a name in `ACTIVATIONS`. If there is a setting "positions", it is the network's
    context, and 0 means the rows'.
    Raises GenaxError for rows longer than the network has positions.
    """
    if "activation" in config:
        own["activation"] = ACTIVATIONS[config.activation]
    if "positions" in config:
        own["context"] = config.positions or config.context
        if config.context > own["context"]:
            raise GenaxError(
                f"config.context={config.context} exceeds the network's "
                f"config.positions={config.positions}; set it to {config.positions} or below."
            )
    return from_config(make, config, **own)


SIZES: Ranges = {
    "vocab_size": COUNT,
    "context": COUNT,
    "positions": AMOUNT,
    "activation": tuple(ACTIVATIONS),
    "hidden_size": COUNT,
    "num_layers": COUNT,
    "num_heads": COUNT,
    "num_kv_heads": COUNT,
    "head_dim": COUNT,
    "mlp_size": COUNT,
    "dropout": SHARE,
    "attention": ("auto", "xla", "ring", "cudnn", "splash"),
}

# 0 is all tokens.
DECODING: Ranges = {
    **decoding.RANGES,
    **beam_search.RANGES,
    "top_k": AMOUNT,
    "start_token": AMOUNT,
    "end_token": replace(AMOUNT, empty=True),
    "special_tokens": AMOUNT,
}

# What is read, scored and computed at a time; 0 is all.
AMOUNTS: Ranges = dict.fromkeys(
    ("chunk", "evaluation_windows", "examples", "evaluated", "scored", "target_context"), AMOUNT
)

RANGES: Ranges = {**OPTIMIZER, **LORA, **SIZES, **DECODING, **AMOUNTS}
