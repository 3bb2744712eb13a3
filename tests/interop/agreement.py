"""Models of transformers and diffusers at random weights, and the same numbers out of genax.

    python -m tests.interop.agreement

prints the largest error of each class over its configurations, as docs/agreement.md has it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genax.interop import load_pretrained
from genax.interop.families import ARCHITECTURES
from tests.interop import autoencoders, denoisers
from tests.interop.case import BATCH, Case
from tests.parity import compare, require
from tests.transformer import encoder_decoder_reference as torch_layers

LENGTH = 9


def tokens(rng, config, length=LENGTH):
    return rng.integers(2, config.vocab_size, (BATCH, length))


def padding(length=LENGTH):
    """Whole, and shortened at the end and at the beginning."""
    mask = np.ones((BATCH, length), np.int64)
    mask[1, -3:] = 0
    mask[2, :2] = 0
    return mask


def ignoring(rng, labels):
    return np.where(rng.random(labels.shape) < 0.3, -100, labels)


def bert_inputs(rng, config):
    return {
        "input_ids": tokens(rng, config),
        "attention_mask": padding(),
        "token_type_ids": rng.integers(0, config.type_vocab_size, (BATCH, LENGTH)),
    }


def token_labels(rng, config):
    return bert_inputs(rng, config) | {"labels": ignoring(rng, tokens(rng, config))}


def pretraining(rng, config):
    places = rng.integers(0, config.max_position_embeddings, (BATCH, LENGTH))
    more = {"next_sentence_label": rng.integers(0, 2, BATCH), "position_ids": places}
    return token_labels(rng, config) | more


def classes(rng, config):
    return bert_inputs(rng, config) | {"labels": rng.integers(0, config.num_labels, BATCH)}


def entities(rng, config):
    labels = ignoring(rng, rng.integers(0, config.num_labels, (BATCH, LENGTH)))
    return bert_inputs(rng, config) | {"labels": labels}


def spans(rng, config):
    return bert_inputs(rng, config) | {
        "start_positions": np.array([1, 3, LENGTH + 4]),
        "end_positions": np.array([2, 5, 4]),
    }


def causal(rng, config):
    ids, mask = tokens(rng, config), padding()
    # A first token is predicted from padding, which attends to nothing: its logits mean nothing.
    follows = mask & np.pad(mask[:, :-1], ((0, 0), (1, 0)))
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": np.where(follows > 0, ids, -100),
    }


def recurrent(rng, config):
    inputs = causal(rng, config)
    if config.use_bias:
        # In transformers the biases reach the state from padding on the left.
        inputs["attention_mask"] = padding()[[0, 1, 0]]
    return inputs


def positioned(rng, config):
    mask = padding()
    return causal(rng, config) | {"position_ids": np.maximum(mask.cumsum(1) - 1, 0)}


def translation(rng, config):
    # PyTorch leaves out the gradient of looking up the padding token, so it is not looked up.
    return {
        "input_ids": tokens(rng, config),
        "attention_mask": padding(),
        "decoder_input_ids": tokens(rng, config, 7),
        "labels": ignoring(rng, tokens(rng, config, 7)),
    }


def images(rng, config):
    shape = (BATCH, config.image_size, config.image_size, config.num_channels)
    labels = rng.integers(0, config.num_labels, BATCH)
    return {"pixel_values": rng.normal(size=shape).astype(np.float32), "labels": labels}


def pairs(rng, config):
    pixels = images(rng, config.vision_config)["pixel_values"]
    return bert_inputs(rng, config.text_config) | {"pixel_values": pixels}


def triples(rng, config):
    draw = lambda size: rng.normal(size=(BATCH, LENGTH, size)).astype(np.float32)  # noqa: E731
    return {
        "states": draw(config.state_dim),
        "actions": draw(config.act_dim),
        "rewards": draw(1),
        "returns_to_go": draw(1),
        "timesteps": rng.integers(0, config.max_ep_len, (BATCH, LENGTH)),
        "attention_mask": padding()[[0, 2, 2]],
    }


BERT_BASE = {"vocab_size": 41, "max_position_embeddings": 12}
BERT_SIZES = (
    {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40},
    {"hidden_size": 20, "num_hidden_layers": 1, "num_attention_heads": 5, "intermediate_size": 20}
    | {"type_vocab_size": 3},
    {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 1, "intermediate_size": 64}
    | {"layer_norm_eps": 1e-5},
)
HEADED = tuple(
    size | {"num_labels": number} for size, number in zip(BERT_SIZES, (2, 5, 3), strict=True)
)
GPT_SIZES = (
    {"n_embd": 24, "n_layer": 2, "n_head": 3},
    {"n_embd": 20, "n_layer": 1, "n_head": 5},
    {"n_embd": 16, "n_layer": 3, "n_head": 1},
)
MARIAN = {
    **{"vocab_size": 41, "decoder_vocab_size": 41, "max_position_embeddings": 16},
    **{"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0},
    **{"scale_embedding": True, "forced_eos_token_id": None},
}


def marian_size(width, layers, heads, mlp_size, **more):
    return {
        **{"d_model": width, "encoder_layers": layers[0], "decoder_layers": layers[1]},
        **{"encoder_attention_heads": heads, "decoder_attention_heads": heads},
        **{"encoder_ffn_dim": mlp_size, "decoder_ffn_dim": mlp_size},
        **more,
    }


def towers(text, vision, **more):
    """Settings of a text tower and a vision tower, each with its type."""
    return {
        "text_config": BERT_BASE | text | {"model_type": "bert"},
        "vision_config": vision | {"model_type": "vit"},
        **more,
    }


VIT_SIZES = (
    {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
    | {"image_size": 12, "patch_size": 4, "intermediate_size": 40, "num_labels": 5},
    {"hidden_size": 20, "num_hidden_layers": 1, "num_attention_heads": 5}
    | {"image_size": 8, "patch_size": 2, "intermediate_size": 20, "num_channels": 1},
    {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 1}
    | {"image_size": 15, "patch_size": 5, "intermediate_size": 64, "num_labels": 7},
)
CASES = (
    Case(
        "BertModel",
        "BertConfig",
        BERT_SIZES,
        bert_inputs,
        ("last_hidden_state", "pooler_output"),
        BERT_BASE,
    ),
    Case(
        "BertForPreTraining",
        "BertConfig",
        BERT_SIZES,
        pretraining,
        ("prediction_logits", "seq_relationship_logits"),
        BERT_BASE,
    ),
    Case("BertForMaskedLM", "BertConfig", BERT_SIZES, token_labels, base=BERT_BASE),
    Case("BertForSequenceClassification", "BertConfig", HEADED, classes, base=BERT_BASE),
    Case("BertForTokenClassification", "BertConfig", HEADED, entities, base=BERT_BASE),
    Case(
        "BertForQuestionAnswering",
        "BertConfig",
        BERT_SIZES,
        spans,
        ("start_logits", "end_logits"),
        BERT_BASE | {"num_labels": 2},
    ),
    Case(
        "OpenAIGPTLMHeadModel",
        "OpenAIGPTConfig",
        GPT_SIZES,
        causal,
        base={"vocab_size": 41, "n_positions": 12},
    ),
    Case(
        "GPT2LMHeadModel",
        "GPT2Config",
        (
            GPT_SIZES[0],
            GPT_SIZES[1] | {"n_inner": 30, "tie_word_embeddings": False},
            GPT_SIZES[2] | {"activation_function": "relu"},
            GPT_SIZES[2] | {"scale_attn_by_inverse_layer_idx": True},
        ),
        positioned,
        base={"vocab_size": 41, "n_positions": 12, "bos_token_id": 0, "eos_token_id": 0},
    ),
    Case(
        "LlamaForCausalLM",
        "LlamaConfig",
        (
            {"hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2},
            {"hidden_size": 20, "num_attention_heads": 5, "num_key_value_heads": 1}
            | {"head_dim": 6, "tie_word_embeddings": True, "num_hidden_layers": 1},
            {"hidden_size": 24, "num_attention_heads": 3, "num_key_value_heads": 3}
            | {
                "rope_parameters": {
                    "rope_type": "llama3",
                    "rope_theta": 500.0,
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 16,
                }
            },
        ),
        causal,
        base={"vocab_size": 41, "num_hidden_layers": 2, "intermediate_size": 40}
        | {"max_position_embeddings": 32},
    ),
    Case(
        "MambaForCausalLM",
        "MambaConfig",
        (
            {"hidden_size": 24, "num_hidden_layers": 2},
            {"hidden_size": 20, "num_hidden_layers": 1, "state_size": 5, "expand": 3}
            | {"conv_kernel": 3, "use_bias": True, "tie_word_embeddings": False},
            {"hidden_size": 16, "num_hidden_layers": 1, "time_step_rank": 3, "expand": 1}
            | {"use_conv_bias": False, "layer_norm_epsilon": 1e-6, "residual_in_fp32": False},
        ),
        recurrent,
        base={"vocab_size": 41, "state_size": 4},
    ),
    Case(
        "Mamba2ForCausalLM",
        "Mamba2Config",
        (
            {"hidden_size": 24, "num_hidden_layers": 2, "head_dim": 8, "num_heads": 6},
            {"hidden_size": 20, "num_hidden_layers": 1, "head_dim": 5, "num_heads": 12}
            | {"state_size": 7, "expand": 3, "n_groups": 3, "conv_kernel": 3, "use_bias": True}
            | {"tie_word_embeddings": True},
            {"hidden_size": 16, "num_hidden_layers": 1, "head_dim": 4, "num_heads": 4, "expand": 1}
            | {"use_conv_bias": False, "layer_norm_epsilon": 1e-6, "chunk_size": 256},
        ),
        recurrent,
        base={"vocab_size": 41, "state_size": 6, "n_groups": 2, "chunk_size": 4},
    ),
    Case(
        "MarianMTModel",
        "MarianConfig",
        (
            marian_size(24, (2, 1), 3, 40, activation_function="swish"),
            marian_size(20, (1, 2), 5, 20, activation_function="relu"),
            marian_size(16, (1, 1), 1, 64),
            marian_size(24, (1, 1), 3, 40, decoder_attention_heads=4, decoder_ffn_dim=28),
        ),
        translation,
        base=MARIAN,
    ),
    Case(
        "T5ForConditionalGeneration",
        "T5Config",
        (
            {"d_model": 24, "d_kv": 8, "num_heads": 3, "num_layers": 2, "d_ff": 40},
            {"d_model": 20, "d_kv": 6, "num_heads": 5, "num_layers": 1, "d_ff": 30}
            | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
            {"d_model": 16, "d_kv": 4, "num_heads": 1, "num_layers": 1, "num_decoder_layers": 2}
            | {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 6},
        ),
        translation,
        base={"vocab_size": 41, "decoder_start_token_id": 0},
    ),
    Case(
        "T5EncoderModel",
        "T5Config",
        (
            {"d_model": 24, "d_kv": 8, "num_heads": 3, "num_layers": 2, "d_ff": 40},
            {"d_model": 20, "d_kv": 6, "num_heads": 5, "num_layers": 1, "d_ff": 30}
            | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        ),
        lambda rng, config: {"input_ids": tokens(rng, config), "attention_mask": padding()},
        ("last_hidden_state",),
        {"vocab_size": 41},
    ),
    Case(
        "ViTForImageClassification",
        "ViTConfig",
        VIT_SIZES,
        images,
    ),
    Case(
        "VisionTextDualEncoderModel",
        "VisionTextDualEncoderConfig",
        (
            towers(BERT_SIZES[0], VIT_SIZES[1], projection_dim=12),
            towers(BERT_SIZES[1], VIT_SIZES[2], projection_dim=7),
            towers(BERT_SIZES[2], VIT_SIZES[0], projection_dim=24, logit_scale_init_value=1.0),
        ),
        pairs,
        ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds"),
    ),
    Case(
        "DecisionTransformerModel",
        "DecisionTransformerConfig",
        (
            {"hidden_size": 24, "n_layer": 2, "n_head": 3, "state_dim": 5, "act_dim": 2},
            {"hidden_size": 20, "n_layer": 1, "n_head": 5, "state_dim": 3, "act_dim": 1}
            | {"action_tanh": False},
            {"hidden_size": 16, "n_layer": 3, "n_head": 1, "state_dim": 4, "act_dim": 3}
            | {"activation_function": "gelu", "n_inner": 20}
            | {"scale_attn_by_inverse_layer_idx": True},
        ),
        triples,
        ("state_preds", "action_preds", "return_preds"),
        {"max_ep_len": 30, "n_positions": 16},
    ),
    *denoisers.CASES,
    *autoencoders.CASES,
)


def make_reference(case: Case, size: Mapping[str, Any]):
    """A model of a library in eval mode, none of whose weights is at its initial value."""
    torch, library = require("torch", case.library)
    library.logging.set_verbosity_error()
    torch.manual_seed(0)
    settings = dict(case.base | size)
    if case.config is None:
        model = getattr(library, case.name)(**settings).eval()
    else:
        model = getattr(library, case.name)(getattr(library, case.config)(**settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    first, *others = case.copies(model) or [None]
    for other in others:
        other.load_state_dict(first.state_dict())
    return model


def tie(first, *others) -> None:
    """Let equal modules have the same parameters."""
    for other in others:
        for source, target in zip(first.modules(), other.modules(), strict=True):
            target._parameters = source._parameters


def errors(case: Case, size: Mapping[str, Any]) -> dict[str, float]:
    """Between a class of a library and what is imported of it: see `compare`."""
    [torch] = require("torch")
    model = make_reference(case, size)
    inputs = case.inputs(np.random.default_rng(1), model.config)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        module, variables = load_pretrained(folder)
    if copies := case.copies(model):
        tie(*copies)
    conversions = ARCHITECTURES[case.name].conversions(module)

    def total(params):
        found = module.apply(variables | {"params": params}, **jax.tree.map(jnp.asarray, inputs))
        return loss_of(found, case, inputs), outputs_of(found, case)

    reference = model(**as_torch(torch, inputs, model))
    return compare(
        total,
        variables["params"],
        conversions,
        model,
        loss_of(reference, case, inputs),
        outputs_of(reference, case),
        partial(real, inputs=inputs),
    )


def outputs_of(found, case):
    """The outputs to compare, those of images with their channels last."""
    outputs = [getattr(found, name) for name in case.outputs]
    return tuple(
        output.permute(0, 2, 3, 1) if hasattr(output, "detach") and output.ndim == 4 else output
        for output in outputs
    )


def real(output, inputs) -> np.ndarray:
    """Outputs at real tokens; at padding they mean nothing."""
    output = output.detach().numpy() if hasattr(output, "detach") else np.asarray(output)
    mask = inputs.get("attention_mask")
    if mask is None or output.shape[:2] != mask.shape:
        return output
    return output[mask > 0]


def loss_of(found, case, inputs):
    """The model's own; for models without labels, of the outputs at real tokens."""
    if getattr(found, "loss", None) is not None:
        return found.loss
    total = 0.0
    for output in outputs_of(found, case):
        mask = inputs.get("attention_mask")
        padded = mask is not None and output.shape[:2] == mask.shape
        total += (output[mask > 0] if padded else output).__pow__(2).mean()
    return total


def as_torch(torch, inputs, model):
    def convert(array):
        tensor = torch.from_numpy(array)
        return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor

    return jax.tree.map(convert, inputs)


def main() -> None:
    columns = ("outputs", "loss", "gradients", "AdamW step")
    print(f"| class | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    rows = {f"`{case.name}`": map(partial(errors, case), case.sizes) for case in CASES}
    layers = "encoder and decoder layers of `torch.nn`"
    rows[layers] = map(torch_layers.errors, torch_layers.SIZES)
    for name, row in rows.items():
        found = list(row)
        worst = (max(one[column] for one in found) for column in columns)
        print(f"| {name} | {' | '.join(f'{error:.0e}' for error in worst)} |", flush=True)


if __name__ == "__main__":
    main()
