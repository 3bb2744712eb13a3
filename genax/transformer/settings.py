"""Settings that experiments with Transformers share, and their ranges."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from genax.nn.lora import RANGES as LORA
from genax.nn.optimizers import RANGES as OPTIMIZER
from genax.settings.ranges import AMOUNT, COUNT, SHARE, Ranges
from genax.transformer import beam_search, decoding

# The loop of a run that takes minutes on a CPU.
SHORT_RUN: dict[str, Any] = {
    "steps_per_call": 10,
    "checkpoint_every": 1_000,
    "sample_every": 1_000,
}
# The network of such a run, if it reads tokens.
SMALL_NETWORK: dict[str, Any] = {
    # Tokens of a row.
    "context": 64,
    "hidden_size": 128,
    "num_layers": 3,
    "num_heads": 4,
    # Whether one block is compiled and looped over.
    "scan_layers": False,
}

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


SIZES: Ranges = {
    "vocab_size": COUNT,
    "context": COUNT,
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
}

# What is read, scored and computed at a time; 0 is all.
AMOUNTS: Ranges = dict.fromkeys(
    ("chunk", "evaluation_windows", "examples", "evaluated", "scored", "target_context"), AMOUNT
)

RANGES: Ranges = {**OPTIMIZER, **LORA, **SIZES, **DECODING, **AMOUNTS}
