"""Ranges of the settings that experiments with Transformers share."""

from __future__ import annotations

from genax.core.ranges import AMOUNT, COUNT, SHARE, Ranges
from genax.nn.optimizers import RANGES as OPTIMIZER
from genax.transformer import beam_search, decoding

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

# 0 means all tokens.
DECODING: Ranges = {
    **decoding.RANGES,
    **beam_search.RANGES,
    "top_k": AMOUNT,
    "start_token": AMOUNT,
}

# Numbers of things to read, score or compute at a time. 0 means all.
AMOUNTS: Ranges = dict.fromkeys(
    ("chunk", "evaluation_windows", "examples", "evaluated", "scored", "target_context"), AMOUNT
)

RANGES: Ranges = {**OPTIMIZER, **SIZES, **DECODING, **AMOUNTS}
