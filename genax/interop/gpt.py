"""OpenAI GPT and GPT-2."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from genax.core.errors import GenaxError
from genax.interop.architecture import Architecture, Config, Exporter, Family, Leaves, token_inputs
from genax.interop.causal_lm import CausalLM
from genax.interop.configuration import Configuration, activation_name
from genax.interop.conversion import Conversion, embedding, flat, norm
from genax.nn.gelu import gelu_tanh
from genax.transformer.gpt import GPT


class OpenAIGPTLMHeadModel(CausalLM):
    """GPT-1."""


class GPT2LMHeadModel(CausalLM):
    """GPT-2."""


def _sizes(config: Configuration) -> dict[str, Any]:
    """Return the arguments of `GPT` that both generations name alike."""
    return {
        "vocab_size": config.need("vocab_size"),
        "context": config.need("n_positions"),
        "hidden_size": config.need("n_embd"),
        "num_layers": config.layers("n_layer"),
        "num_heads": config.need("n_head"),
        "dropout": config.real("resid_pdrop", 0.1),
        "epsilon": config.real("layer_norm_epsilon", 1e-5),
    }


def build_gpt1(architecture: str, config: Configuration, names: set[str]) -> nn.Module:
    """Build OpenAI GPT, whose "gelu" is the approximation by tanh."""
    config.require(model_type="openai-gpt", afn="gelu", tie_word_embeddings=True)
    config.require(predict_special_tokens=True, n_special=0)
    config.get("pad_token_id")
    return OpenAIGPTLMHeadModel(GPT(**_sizes(config), post_norm=True))


def build_gpt2(architecture: str, config: Configuration, names: set[str]) -> nn.Module:
    """Build GPT-2 with a tied or an untied head."""
    return GPT2LMHeadModel(
        GPT(
            **_sizes(config),
            mlp_size=config.optional("n_inner"),
            tied_head=config.get("tie_word_embeddings", True),
            activation=config.activation("activation_function", "gelu_new"),
            inverse_layer_scaling=inverse_layer_scaling(config, "gpt2"),
        )
    )


def inverse_layer_scaling(config: Configuration, kind: str) -> bool:
    """Return whether the scores of layer i, counted from 1, are divided by i.

    kind: the model_type.
    Raises GenaxError for other variations of GPT-2's attention.
    """
    config.require(
        model_type=kind,
        add_cross_attention=False,
        scale_attn_weights=True,
        reorder_and_upcast_attn=False,
    )
    config.get("pad_token_id")
    return config.get("scale_attn_by_inverse_layer_idx", False)


def conversions(model: CausalLM) -> list[Conversion]:
    """Return the tensors of each variable of either GPT."""
    first = isinstance(model, OpenAIGPTLMHeadModel)
    tokens, places = ("tokens_embed", "positions_embed") if first else ("wte", "wpe")
    found = [
        embedding("decoder/token_embedding", f"transformer.{tokens}"),
        embedding("decoder/position_embedding", f"transformer.{places}"),
    ]
    for number in range(model.decoder.num_layers):
        found += block_conversions(f"decoder/blocks_{number}", f"transformer.h.{number}")
    if not first:
        found += norm("decoder/final_norm", "transformer.ln_f")
    if not model.decoder.tied_head:
        found.append(embedding("decoder/head", "lm_head"))
    return found


def block_conversions(ours: str, theirs: str) -> list[Conversion]:
    """Return the tensors of each variable of one block, whose weights are [in, out]."""
    layers = {
        "attention/qkv": "attn.c_attn",
        "attention/output": "attn.c_proj",
        "feed_forward/expand": "mlp.c_fc",
        "feed_forward/output": "mlp.c_proj",
    }
    found = norm(f"{ours}/attention_norm", f"{theirs}.ln_1")
    found += norm(f"{ours}/feed_forward_norm", f"{theirs}.ln_2")
    for path, name in layers.items():
        num_in = 2 if path == "attention/output" else 1
        found.append(_transposed(f"params/{ours}/{path}/kernel", f"{theirs}.{name}.weight", num_in))
        found.append(flat(f"params/{ours}/{path}/bias", f"{theirs}.{name}.bias", (-1,)))
    return found


def _transposed(path: str, name: str, num_in: int) -> Conversion:
    """Convert a weight [in, out] to a kernel [*in, *out]."""

    def write(ours):
        size = 1
        for axis in ours.shape[:num_in]:
            size *= axis
        return (ours.reshape(size, -1),)

    return Conversion(path, (name,), lambda found, shape: found[0].reshape(shape), write)


def _config(networks: Any, leaves: Leaves) -> Config:
    decoder: GPT = networks.decoder
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
        if decoder.activation is not gelu_tanh:
            raise GenaxError("a GPT-1 with another activation than gelu_tanh cannot be exported.")
        if decoder.inverse_layer_scaling:
            raise GenaxError("a GPT-1 with inverse_layer_scaling cannot be exported.")
        return names | common | {"afn": "gelu"}
    activation = activation_name(decoder)
    names = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}
    more = {"n_inner": decoder.mlp_size, "activation_function": activation}
    if decoder.inverse_layer_scaling:
        more["scale_attn_by_inverse_layer_idx"] = True
    return names | common | more


def _with_biases(decoder: GPT, leaves: Leaves) -> Leaves:
    """Add zeros for the biases that the decoder does not have, which is the same function."""
    if decoder.use_bias:
        return leaves
    found = {}
    for path, leaf in leaves.items():
        folder, _, name = path.rpartition("/")
        if name == "scale":
            found[f"{folder}/bias"] = jnp.zeros_like(leaf)
        elif name == "kernel":
            num_in = 2 if folder.endswith("attention/output") else 1
            found[f"{folder}/bias"] = jnp.zeros(leaf.shape[num_in:], leaf.dtype)
    return {**leaves, **found}


def experiment(model: CausalLM) -> tuple[str, dict[str, Any]]:
    """Return the experiment that trains either GPT."""
    return "experiments/transformer/gpt.py:stdlib", {}


FAMILY = Family(
    {
        "OpenAIGPTLMHeadModel": Architecture(
            build_gpt1,
            conversions,
            token_inputs,
            copies={"lm_head.weight": "transformer.tokens_embed.weight"},
            buffers=(r"transformer\.h\.\d+\.attn\.bias", r"transformer\.position_ids"),
            renames=((r"^(h|tokens_embed|positions_embed|position_ids)\b", r"transformer.\1"),),
            experiment=experiment,
        ),
        "GPT2LMHeadModel": Architecture(
            build_gpt2,
            conversions,
            token_inputs,
            copies={"lm_head.weight": "transformer.wte.weight"},
            buffers=(r"transformer\.h\.\d+\.attn\.(masked_)?bias",),
            renames=((r"^(h|wte|wpe|ln_f)\.", r"transformer.\1."),),
            experiment=experiment,
        ),
    },
    Exporter("decoder", GPT, _config, _with_biases),
)
