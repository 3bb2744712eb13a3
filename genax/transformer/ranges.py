"""Ranges of the settings that experiments with Transformers share."""

from __future__ import annotations

from genax.core.ranges import AMOUNT, COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Range, Ranges
from genax.nn.optimizers import RANGES as OPTIMIZER

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

# Of `genax.transformer.decoding` and `genax.transformer.beam_search`.
DECODING: Ranges = {
    "temperature": NOT_NEGATIVE,
    "top_k": AMOUNT,
    "top_p": Range(above=0, most=1),
    "repetition_penalty": POSITIVE,
    "start_token": AMOUNT,
    "num_beams": COUNT,
    "length_penalty": Range(),
}

# What is read, scored and computed at a time; 0 is all.
AMOUNTS: Ranges = dict.fromkeys(
    ("chunk", "evaluation_windows", "examples", "evaluated", "scored", "target_context"), AMOUNT
)

RANGES: Ranges = {**OPTIMIZER, **SIZES, **DECODING, **AMOUNTS}
