"""Mamba-2."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn

from genax.core.errors import GenaxError
from genax.hybrid.mamba2 import Mamba2
from genax.interop.architecture import Architecture, Config, Exporter, Family, Leaves, token_inputs
from genax.interop.configuration import Configuration
from genax.interop.conversion import Conversion, dense, flat, norm
from genax.interop.recurrent_lm import (
    COPIES,
    RENAMES,
    RecurrentLM,
    mixer_paths,
    shared_config,
    shared_conversions,
    shared_sizes,
)

# As transformers writes it since version 5.
_INFINITY = {"__float__": "Infinity"}


class Mamba2ForCausalLM(RecurrentLM):
    """Mamba-2."""


def build(architecture: str, config: Configuration, names: set[str]) -> nn.Module:
    """Build Mamba-2."""
    sizes = shared_sizes(config, "mamba2", False)
    # Nothing reads the rank: transformers carries it over from Mamba.
    config.get("time_step_rank")
    limit = config.get("time_step_limit", [0.0, math.inf])
    if limit not in ([0.0, math.inf], [0.0, _INFINITY]):
        raise GenaxError(
            f"{config.source} has time_step_limit={limit!r}, but time steps without a limit alone "
            "are supported."
        )
    decoder = Mamba2(
        **sizes,
        head_dim=config.size("head_dim", 64),
        groups=config.size("n_groups", 8),
        chunk_size=config.size("chunk_size", 256),
    )
    heads, found = decoder.num_heads, config.size("num_heads", 128)
    if heads != found:
        raise GenaxError(
            f"{config.source} has num_heads={found}; {sizes['expand']} x {sizes['hidden_size']} "
            f"channels are {heads} heads of {decoder.head_dim}."
        )
    return Mamba2ForCausalLM(decoder)


def conversions(model: Mamba2ForCausalLM) -> list[Conversion]:
    """Return the tensors of each variable."""
    decoder: Any = model.decoder
    found = shared_conversions(decoder)
    for number in range(decoder.num_layers):
        ours, theirs = mixer_paths(number)
        found += [
            *dense(f"{ours}/joint_input", f"{theirs}.in_proj", bias=decoder.use_bias),
            flat(f"params/{ours}/time_step_bias", f"{theirs}.dt_bias"),
            *norm(f"{ours}/norm", f"{theirs}.norm", bias=False),
        ]
    return found


def _config(networks: Any, leaves: Leaves) -> Config:
    decoder: Mamba2 = networks.decoder
    return {
        **shared_config(decoder, "Mamba2ForCausalLM", "mamba2"),
        "head_dim": decoder.head_dim,
        "num_heads": decoder.num_heads,
        "n_groups": decoder.groups,
        "chunk_size": decoder.chunk_size,
    }


FAMILY = Family(
    {
        "Mamba2ForCausalLM": Architecture(
            build,
            conversions,
            token_inputs,
            copies=COPIES,
            renames=RENAMES,
            experiment=lambda model: ("experiments/hybrid/mamba2.py:stdlib", {}),
        ),
    },
    Exporter("decoder", Mamba2, _config),
)
