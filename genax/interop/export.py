"""What config.json says of a task's networks, and their parameters as a directory wants them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from genax.core import tree
from genax.core.errors import GenaxError
from genax.data.text.text_pairs import END, PAD, START
from genax.interop.configuration import ACTIVATIONS
from genax.nn.gelu import gelu_tanh
from genax.transformer.bert import BERT
from genax.transformer.gpt import GPT
from genax.transformer.llama import LLaMA
from genax.transformer.t5 import T5
from genax.transformer.tasks.fine_tuning import RegressionNetworks, SpanNetworks
from genax.transformer.vit import ViT

Config = dict[str, Any]
Leaves = Mapping[str, Any]


def describe(networks: nn.Module, params: Mapping[str, Any]) -> tuple[Config, dict[str, Any]]:
    """The config of a task's networks, and their parameters with layers one by one.

    networks: GPT or LLaMA as `decoder`, BERT as `encoder` with its heads, ViT as `classifier`, T5
    as `transformer`. Biases that a GPT does not have become zeros, which is the same function.
    Raises GenaxError for other networks.
    """
    leaves = tree.flatten(params)
    kinds = [name for name, (kind, _) in _KINDS.items() if _is(networks, name, kind)]
    if not kinds:
        raise GenaxError(
            f"{type(networks).__name__} cannot be exported: it has neither a GPT or LLaMA named "
            "decoder, a BERT named encoder, a ViT named classifier, nor a T5 named transformer."
        )
    name, network = kinds[0], getattr(networks, kinds[0])
    config = _KINDS[name][1](networks, leaves)
    if getattr(network, "scan_layers", False):
        for stack, layers in _stacks(network).items():
            leaves = unstack(leaves, f"{name}/{stack}", layers)
    if isinstance(network, GPT) and not network.use_bias:
        leaves |= _zero_biases(leaves)
    if isinstance(network, ViT):
        leaves = {path.replace("classifier/", "vit/", 1): leaf for path, leaf in leaves.items()}
    return config, tree.nest(leaves)


def _is(networks: nn.Module, name: str, kind: Any) -> bool:
    return isinstance(getattr(networks, name, None), kind)


def _stacks(network: Any) -> dict[str, int]:
    """Layers under nn.scan, by the name of their stack."""
    both = {"encoder_blocks": network.encoder_layers} if isinstance(network, T5) else {}
    return {"blocks": network.num_layers, **both}


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


def _decoder(networks: Any, leaves: Leaves) -> Config:
    decoder = networks.decoder
    return _gpt(decoder) if isinstance(decoder, GPT) else _llama(decoder)


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
        if decoder.activation is not gelu_tanh:
            raise GenaxError("a GPT-1 with another activation than gelu_tanh cannot be exported.")
        return names | common | {"afn": "gelu"}
    activation = _activation(decoder)
    names = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}
    sizes = {"n_inner": decoder.mlp_size, "activation_function": activation}
    return names | common | sizes


def _activation(network: GPT | T5) -> str:
    for name, function in ACTIVATIONS.items():
        if function is network.activation:
            return name
    raise GenaxError(
        f"{type(network).__name__}: its activation cannot be exported; those of "
        f"{', '.join(ACTIVATIONS)} can."
    )


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


def _bert(networks: Any, leaves: Leaves) -> Config:
    encoder: BERT = networks.encoder
    config: Config = {
        "architectures": [_bert_architecture(networks)],
        "model_type": "bert",
        "vocab_size": encoder.vocab_size,
        "max_position_embeddings": encoder.context,
        "hidden_size": encoder.hidden_size,
        "num_hidden_layers": encoder.num_layers,
        "num_attention_heads": encoder.num_heads,
        "intermediate_size": encoder.mlp_size or 4 * encoder.hidden_size,
        "type_vocab_size": encoder.num_segments,
        "hidden_dropout_prob": encoder.dropout,
        "attention_probs_dropout_prob": encoder.dropout,
        "layer_norm_eps": encoder.epsilon,
        "pad_token_id": 0,
    }
    if hasattr(networks, "classifier"):
        config |= _labels(networks.classifier.num_labels)
    if isinstance(networks, RegressionNetworks):
        config["problem_type"] = "regression"
    return config


def _bert_architecture(networks: Any) -> str:
    if hasattr(networks, "masked_head"):
        both = networks.next_sentence_head is not None
        return "BertForPreTraining" if both else "BertForMaskedLM"
    if isinstance(networks, SpanNetworks):
        return "BertForQuestionAnswering"
    if not hasattr(networks, "classifier"):
        return "BertModel"
    whole = networks.encoder.with_pooler
    return "BertForSequenceClassification" if whole else "BertForTokenClassification"


def _labels(count: int) -> Config:
    names = {str(number): f"LABEL_{number}" for number in range(count)}
    return {"id2label": names, "label2id": {name: int(key) for key, name in names.items()}}


def _vit(networks: Any, leaves: Leaves) -> Config:
    vit: ViT = networks.classifier
    if vit.pool != "token":
        raise GenaxError("a ViT that pools by the mean cannot be exported: transformers has none.")
    return {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "image_size": vit.image_size,
        "patch_size": vit.patch_size,
        "num_channels": len(leaves["classifier/patch_embedding/kernel"]) // vit.patch_size**2,
        "hidden_size": vit.hidden_size,
        "num_hidden_layers": vit.num_layers,
        "num_attention_heads": vit.num_heads,
        "intermediate_size": vit.mlp_size or 4 * vit.hidden_size,
        "hidden_dropout_prob": vit.dropout,
        "layer_norm_eps": vit.epsilon,
        **_labels(vit.num_classes),
    }


def _t5(networks: Any, leaves: Leaves) -> Config:
    t5: T5 = networks.transformer
    name = _activation(t5)
    if t5.gated and name == "gelu":
        raise GenaxError(
            'a gated T5 with the exact gelu cannot be exported: there it is "gelu_new".'
        )
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "vocab_size": t5.vocab_size,
        "n_positions": t5.context,
        "d_model": t5.hidden_size,
        "d_kv": t5.cache_heads[1],
        "d_ff": t5.mlp_size or 4 * t5.hidden_size,
        "num_layers": t5.encoder_layers,
        "num_decoder_layers": t5.num_layers,
        "num_heads": t5.num_heads,
        "relative_attention_num_buckets": t5.num_buckets,
        "relative_attention_max_distance": t5.max_distance,
        "dropout_rate": t5.dropout,
        "layer_norm_epsilon": t5.epsilon,
        "feed_forward_proj": f"gated-{name}" if t5.gated else name,
        "tie_word_embeddings": t5.tied_head,
        "scale_decoder_outputs": t5.scale_logits,
        "pad_token_id": PAD,
        "decoder_start_token_id": START,
        "eos_token_id": END,
    }


_KINDS: Mapping[str, tuple[Any, Callable[[Any, Leaves], Config]]] = {
    "decoder": ((GPT, LLaMA), _decoder),
    "encoder": (BERT, _bert),
    "classifier": (ViT, _vit),
    "transformer": (T5, _t5),
}
