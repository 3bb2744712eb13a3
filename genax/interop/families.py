"""The architectures of Hugging Face directories that can be read and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genax.interop import bert, decision_transformer, gpt, t5, vit
from genax.interop.configuration import Fields
from genax.interop.conversion import Link


@dataclass(frozen=True)
class Architecture:
    """How a directory becomes a model, and which tensors hold its parameters.

    build: (name, fields, names of the tensors) -> model. inputs: model -> example inputs, by which
    parameters have shapes. copies: tensors that repeat another one, which older files have, or have
    in its place. buffers: patterns of names of tensors that are no parameters. renames: (pattern,
    replacement) of names that older files have. fixed: model -> tensors that are no parameters and
    may have one value only. unread: patterns of names of parts that the class does not have, but
    its files often do.
    """

    build: Callable[[str, Fields, set[str]], nn.Module]
    links: Callable[[Any], list[Link]]
    inputs: Callable[[Any], Mapping[str, jax.Array]]
    copies: Mapping[str, str] = field(default_factory=dict)
    buffers: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    fixed: Callable[[Any], Mapping[str, np.ndarray]] = lambda model: {}
    unread: tuple[str, ...] = ()


def _tokens(model: Any) -> dict[str, jax.Array]:
    return {"input_ids": jnp.zeros((1, 2), jnp.int32)}


def _both_sides(model: Any) -> dict[str, jax.Array]:
    return {**_tokens(model), "decoder_input_ids": jnp.zeros((1, 2), jnp.int32)}


def _images(model: Any) -> dict[str, jax.Array]:
    size = model.vit.image_size
    return {"pixel_values": jnp.zeros((1, size, size, model.num_channels))}


def _triples(model: Any) -> dict[str, jax.Array]:
    net = model.transformer
    return {
        "states": jnp.zeros((1, 1, net.state_size)),
        "actions": jnp.zeros((1, 1, net.action_size)),
        "returns_to_go": jnp.zeros((1, 1, 1)),
        "timesteps": jnp.zeros((1, 1), jnp.int32),
    }


_GAMMA = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))
_POOLER = r"bert\.pooler\.dense\.(weight|bias)"
_BERT = Architecture(
    bert.build,
    bert.links,
    _tokens,
    copies={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    buffers=(r"(bert\.)?embeddings\.(position|token_type)_ids",),
    renames=(*_GAMMA, (r"^(embeddings|encoder|pooler)\.", r"bert.\1.")),
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "BertModel": replace(_BERT, renames=(*_GAMMA, (r"^bert\.", ""))),
    "BertForPreTraining": _BERT,
    "BertForMaskedLM": replace(_BERT, unread=(_POOLER, r"cls\.seq_relationship\.(weight|bias)")),
    "BertForSequenceClassification": _BERT,
    "BertForTokenClassification": replace(_BERT, unread=(_POOLER,)),
    "BertForQuestionAnswering": replace(_BERT, unread=(_POOLER,)),
    "OpenAIGPTLMHeadModel": Architecture(
        gpt.build_gpt1,
        gpt.gpt_links,
        _tokens,
        copies={"lm_head.weight": "transformer.tokens_embed.weight"},
        buffers=(r"transformer\.h\.\d+\.attn\.bias", r"transformer\.position_ids"),
        renames=((r"^(h|tokens_embed|positions_embed|position_ids)\b", r"transformer.\1"),),
    ),
    "GPT2LMHeadModel": Architecture(
        gpt.build_gpt2,
        gpt.gpt_links,
        _tokens,
        copies={"lm_head.weight": "transformer.wte.weight"},
        buffers=(r"transformer\.h\.\d+\.attn\.(masked_)?bias",),
        renames=((r"^(h|wte|wpe|ln_f)\.", r"transformer.\1."),),
    ),
    "LlamaForCausalLM": Architecture(
        gpt.build_llama,
        gpt.llama_links,
        _tokens,
        copies={"lm_head.weight": "model.embed_tokens.weight"},
        buffers=(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",),
    ),
    "MarianMTModel": Architecture(
        t5.build_marian,
        t5.marian_links,
        _both_sides,
        copies={
            "model.encoder.embed_tokens.weight": "model.shared.weight",
            "model.decoder.embed_tokens.weight": "model.shared.weight",
            "lm_head.weight": "model.shared.weight",
        },
        fixed=t5.marian_positions,
    ),
    "T5ForConditionalGeneration": Architecture(
        t5.build_t5,
        t5.t5_links,
        _both_sides,
        copies={
            "encoder.embed_tokens.weight": "shared.weight",
            "decoder.embed_tokens.weight": "shared.weight",
            "lm_head.weight": "shared.weight",
        },
        buffers=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
    ),
    "ViTForImageClassification": Architecture(vit.build, vit.links, _images),
    "DecisionTransformerModel": Architecture(
        decision_transformer.build,
        decision_transformer.links,
        _triples,
        buffers=(r"encoder\.h\.\d+\.attn\.(masked_)?bias",),
    ),
}
