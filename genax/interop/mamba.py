"""Mamba."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn

from genax.hybrid.mamba import Mamba
from genax.interop.architecture import Architecture, Config, Exporter, Family, Leaves, token_inputs
from genax.interop.configuration import Configuration
from genax.interop.conversion import Conversion, dense, flat, matrix
from genax.interop.recurrent_lm import (
    COPIES,
    RENAMES,
    RecurrentLM,
    mixer_paths,
    shared_config,
    shared_conversions,
    shared_sizes,
)


class MambaForCausalLM(RecurrentLM):
    """Mamba."""


def build(architecture: str, config: Configuration, names: set[str]) -> nn.Module:
    """Build Mamba."""
    # "auto" is the rank that the network has by itself.
    automatic = config.has("time_step_rank") and config.get("time_step_rank") == "auto"
    rank = 0 if automatic else config.size("time_step_rank", 0)
    return MambaForCausalLM(Mamba(**shared_sizes(config, "mamba", True), time_step_rank=rank))


def conversions(model: MambaForCausalLM) -> list[Conversion]:
    """Return the tensors of each variable."""
    decoder: Any = model.decoder
    found = shared_conversions(decoder)
    for number in range(decoder.num_layers):
        ours, theirs = mixer_paths(number)
        found += [
            *dense(f"{ours}/input", f"{theirs}.in_proj", bias=decoder.use_bias),
            *dense(f"{ours}/selection", f"{theirs}.x_proj", bias=False),
            matrix(f"params/{ours}/time_step/kernel", f"{theirs}.dt_proj.weight"),
            flat(f"params/{ours}/time_step_bias", f"{theirs}.dt_proj.bias"),
        ]
    return found


def _config(networks: Any, leaves: Leaves) -> Config:
    decoder: Mamba = networks.decoder
    rank = decoder.time_step_rank or math.ceil(decoder.hidden_size / 16)
    return {
        **shared_config(decoder, "MambaForCausalLM", "mamba"),
        "intermediate_size": decoder.expand * decoder.hidden_size,
        "time_step_rank": rank,
    }


FAMILY = Family(
    {
        "MambaForCausalLM": Architecture(
            build,
            conversions,
            token_inputs,
            copies=COPIES,
            renames=RENAMES,
            experiment=lambda model: ("experiments/hybrid/mamba.py:stdlib", {}),
        ),
    },
    Exporter("decoder", Mamba, _config),
)
