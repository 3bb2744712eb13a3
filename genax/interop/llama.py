"""LLaMA."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from genax.core.errors import GenaxError
from genax.interop.architecture import Architecture, Config, Exporter, Family, Leaves, token_inputs
from genax.interop.causal_lm import CausalLM
from genax.interop.configuration import Configuration
from genax.interop.conversion import Conversion, attention, dense, embedding, norm
from genax.nn.rotary import LongContext
from genax.transformer.llama import LLaMA

_SCALING = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
# Bases and factors beyond any in use; float32 still holds them and their powers.
_MOST_BASE, _MOST_FACTOR = 1e30, 1e6


class LlamaForCausalLM(CausalLM):
    """LLaMA."""


def build(architecture: str, config: Configuration, names: set[str]) -> nn.Module:
    """Build LLaMA with its rotary scaling, if it has one."""
    config.require(model_type="llama", mlp_bias=False, attention_bias=False, hidden_act="silu")
    config.get("pad_token_id")
    theta, scaling = _rotary(config)
    return LlamaForCausalLM(
        LLaMA(
            vocab_size=config.need("vocab_size"),
            context=config.need("max_position_embeddings"),
            hidden_size=config.need("hidden_size"),
            num_layers=config.layers("num_hidden_layers"),
            num_heads=config.need("num_attention_heads"),
            mlp_size=config.need("intermediate_size"),
            epsilon=config.real("rms_norm_eps", 1e-6),
            tied_head=config.get("tie_word_embeddings", False),
            num_kv_heads=config.size("num_key_value_heads", config.need("num_attention_heads")),
            head_dim=config.optional("head_dim"),
            theta=theta,
            scaling=scaling,
        )
    )


def _rotary(config: Configuration) -> tuple[float, LongContext | None]:
    """Return the base and the scaling, which newer files keep in one field and older ones in two.

    If a file has both, the older field counts, as in transformers.
    """
    rotary = {
        "rope_theta": config.get("rope_theta"),
        "original_max_position_embeddings": config.need("max_position_embeddings"),
    }
    new, old = config.get("rope_parameters", {}), config.get("rope_scaling", {})
    rotary |= old or new
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    unknown = sorted(set(rotary) - {"rope_theta", "rope_type", "type", *_SCALING})
    if kind not in ("default", "llama3") or unknown:
        what = f"settings {', '.join(unknown)}" if unknown else f"scaling {kind!r}"
        raise GenaxError(
            f'{config.source} has rotary {what}; "default" and "llama3" are supported.'
        )
    found = Configuration(rotary, f"{config.source}, rotary {kind!r},")
    theta = found.real("rope_theta", 10_000.0, least=1.0, most=_MOST_BASE)
    if kind == "default":
        return theta, None
    low = found.real("low_freq_factor", None, most=_MOST_FACTOR, above=True)
    scaling = LongContext(
        factor=found.real("factor", None, least=1.0, most=_MOST_FACTOR),
        low_factor=low,
        high_factor=found.real("high_freq_factor", None, low, _MOST_FACTOR, above=True),
        original_context=found.need("original_max_position_embeddings"),
    )
    return theta, scaling


def conversions(model: LlamaForCausalLM) -> list[Conversion]:
    """Return the tensors of each variable."""
    decoder = model.decoder
    assert isinstance(decoder, LLaMA)
    joint = decoder.num_kv_heads in (None, decoder.num_heads)
    found = [
        embedding("decoder/token_embedding", "model.embed_tokens"),
        *norm("decoder/final_norm", "model.norm", bias=False),
    ]
    for number in range(decoder.num_layers):
        ours, theirs = f"decoder/blocks_{number}", f"model.layers.{number}"
        inside = f"{theirs}.self_attn"
        found += [
            *norm(f"{ours}/attention_norm", f"{theirs}.input_layernorm", bias=False),
            *attention(
                f"{ours}/attention",
                [f"{inside}.{part}_proj" for part in "qkvo"],
                joint=joint,
                bias=False,
            ),
            *norm(f"{ours}/feed_forward_norm", f"{theirs}.post_attention_layernorm", bias=False),
            *dense(f"{ours}/feed_forward/gate", f"{theirs}.mlp.gate_proj", bias=False),
            *dense(f"{ours}/feed_forward/expand", f"{theirs}.mlp.up_proj", bias=False),
            *dense(f"{ours}/feed_forward/output", f"{theirs}.mlp.down_proj", bias=False),
        ]
    if not decoder.tied_head:
        found.append(embedding("decoder/head", "lm_head"))
    return found


def _config(networks: Any, leaves: Leaves) -> Config:
    decoder: LLaMA = networks.decoder
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


FAMILY = Family(
    {
        "LlamaForCausalLM": Architecture(
            build,
            conversions,
            token_inputs,
            copies={"lm_head.weight": "model.embed_tokens.weight"},
            buffers=(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",),
            experiment=lambda model: ("experiments/transformer/llama.py:stdlib", {}),
        ),
    },
    Exporter("decoder", LLaMA, _config),
)
