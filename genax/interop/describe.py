"""What config.json says of a task's networks, and their parameters as a directory wants them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from genax.core import tree
from genax.core.errors import GenaxError
from genax.interop.fields import ACTIVATIONS
from genax.transformer.gpt import GPT
from genax.transformer.llama import LLaMA

Config = dict[str, Any]


def describe(networks: nn.Module, params: Mapping[str, Any]) -> tuple[Config, dict[str, Any]]:
    """The config of a language model, and its parameters with layers one by one.

    networks: with a `decoder` that is a GPT or a LLaMA. Biases that a GPT does not have become
    zeros, which is the same function. Raises GenaxError for other networks.
    """
    decoder = getattr(networks, "decoder", None)
    if isinstance(decoder, GPT):
        config = _gpt(decoder)
    elif isinstance(decoder, LLaMA):
        config = _llama(decoder)
    else:
        raise GenaxError(
            f"{type(networks).__name__} has no GPT or LLaMA named decoder; such runs alone, and "
            "what `genax import` wrote, can be exported."
        )
    leaves = tree.flatten({"decoder": params["decoder"]})
    if decoder.scan_layers:
        leaves = unstack(leaves, "decoder/blocks", decoder.num_layers)
    if isinstance(decoder, GPT) and not decoder.use_bias:
        leaves |= _zero_biases(leaves)
    return config, tree.nest(leaves)


def unstack(leaves: Mapping[str, Any], prefix: str, num_layers: int) -> dict[str, Any]:
    """Parameters below "<prefix>/" with an axis of layers, as "<prefix>_<number>/" without."""
    found: dict[str, Any] = {}
    for path, leaf in leaves.items():
        if path.startswith(f"{prefix}/"):
            rest = path.removeprefix(prefix)
            found |= {f"{prefix}_{number}{rest}": leaf[number] for number in range(num_layers)}
        else:
            found[path] = leaf
    return found


def _zero_biases(leaves: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for path, leaf in leaves.items():
        folder, _, name = path.rpartition("/")
        if name == "scale":
            found[f"{folder}/bias"] = jnp.zeros_like(leaf)
        elif name == "kernel":
            first = 2 if folder.endswith("attention/output") else 1
            found[f"{folder}/bias"] = jnp.zeros(leaf.shape[first:], leaf.dtype)
    return found


def _gpt(decoder: GPT) -> Config:
    common = {
        "vocab_size": decoder.vocab_size,
        "n_positions": decoder.context,
        "n_embd": decoder.hidden_size,
        "n_layer": decoder.num_layers,
        "n_head": decoder.num_heads,
        "layer_norm_epsilon": decoder.epsilon,
        "tie_word_embeddings": decoder.tied_head,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    if decoder.post_norm:
        names = {"architectures": ["OpenAIGPTLMHeadModel"], "model_type": "openai-gpt"}
        return names | common | {"afn": "gelu"}
    activation = next(name for name, f in ACTIVATIONS.items() if f is decoder.activation)
    names = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}
    sizes = {"n_inner": decoder.mlp_size, "activation_function": activation}
    return names | common | sizes


def _llama(decoder: LLaMA) -> Config:
    scaling = decoder.scaling
    rotary: Config = {"rope_type": "default", "rope_theta": decoder.theta}
    if scaling is not None:
        rotary |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_factor,
            "high_freq_factor": scaling.high_factor,
            "original_max_position_embeddings": scaling.original_context,
        }
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": decoder.vocab_size,
        "max_position_embeddings": decoder.context,
        "hidden_size": decoder.hidden_size,
        "num_hidden_layers": decoder.num_layers,
        "num_attention_heads": decoder.num_heads,
        "num_key_value_heads": decoder.num_kv_heads or decoder.num_heads,
        "head_dim": decoder.cache_heads[1],
        "intermediate_size": decoder.inner_size,
        "rms_norm_eps": decoder.epsilon,
        "rope_parameters": rotary,
        "tie_word_embeddings": decoder.tied_head,
        "bos_token_id": None,
        "eos_token_id": None,
    }
