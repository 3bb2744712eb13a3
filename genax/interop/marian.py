"""Marian's translation models."""

from __future__ import annotations

import flax.linen as nn
import numpy as np

from genax.core.errors import GenaxError
from genax.interop.architecture import Architecture, Family
from genax.interop.configuration import Configuration
from genax.interop.conversion import Conversion, attention, dense, embedding, flat, norm
from genax.interop.seq2seq_lm import Seq2SeqLM, inputs
from genax.nn.sinusoids import sinusoids
from genax.transformer.encoder_decoder import EncoderDecoder

# Rows and columns of the positions, which are computed as one table.
MOST_SINUSOIDS = 1 << 14


class MarianMTModel(Seq2SeqLM):
    """Marian."""


def build(architecture: str, config: Configuration, names: set[str]) -> nn.Module:
    """Build Marian with one vocabulary on both sides."""
    vocab_size = config.need("vocab_size")
    config.require(
        model_type="marian",
        decoder_vocab_size=vocab_size,
        share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True,
        is_encoder_decoder=True,
        normalize_before=False,
        normalize_embedding=False,
        add_final_layer_norm=False,
        add_bias_logits=False,
        static_position_embeddings=True,
        extra_pos_embeddings=0,
        num_hidden_layers=config.layers("encoder_layers"),
    )
    config.real("classif_dropout", 0.0)  # Another class has that head.
    if not config.get("scale_embedding", False):
        raise GenaxError(f"{config.source} has scale_embedding=False; True alone is supported.")
    heads, mlp_size = config.need("encoder_attention_heads"), config.need("encoder_ffn_dim")
    return MarianMTModel(
        EncoderDecoder(
            vocab_size=vocab_size,
            context=config.need("max_position_embeddings", most=MOST_SINUSOIDS),
            hidden_size=config.need("d_model", most=MOST_SINUSOIDS),
            num_layers=config.layers("decoder_layers"),
            num_heads=config.size("decoder_attention_heads", heads),
            mlp_size=config.size("decoder_ffn_dim", mlp_size),
            dropout=config.real("dropout", 0.1),
            num_encoder_layers=config.layers("encoder_layers"),
            num_encoder_heads=heads,
            encoder_mlp_size=mlp_size,
            activation=config.activation("activation_function", "gelu"),
            halves=True,
            logits_bias=True,
        ),
        start_token=config.need("decoder_start_token_id", 0, vocab_size - 1),
        pad_token=config.need("pad_token_id", 0, vocab_size - 1),
    )


def conversions(model: MarianMTModel) -> list[Conversion]:
    """Return the tensors of each variable."""
    found = [
        embedding("transformer/token_embedding", "model.shared"),
        flat("params/transformer/logits_bias", "final_logits_bias", (1, -1)),
    ]
    stacks = (
        ("encoder", "encoder_blocks", model.transformer.encoder_layers),
        ("decoder", "blocks", model.transformer.num_layers),
    )
    for side, blocks, layers in stacks:
        for number in range(layers):
            ours, theirs = f"transformer/{blocks}_{number}", f"model.{side}.layers.{number}"
            parts = {"attention": "self_attn"}
            if side == "decoder":
                parts["cross_attention"] = "encoder_attn"
            for path, name in parts.items():
                found += attention(
                    f"{ours}/{path}",
                    [f"{theirs}.{name}.{part}_proj" for part in ("q", "k", "v", "out")],
                    joint=path == "attention",
                )
                found += norm(f"{ours}/{path}_norm", f"{theirs}.{name}_layer_norm")
            found += dense(f"{ours}/feed_forward/expand", f"{theirs}.fc1")
            found += dense(f"{ours}/feed_forward/output", f"{theirs}.fc2")
            found += norm(f"{ours}/feed_forward_norm", f"{theirs}.final_layer_norm")
    return found


def positions(model: MarianMTModel) -> dict[str, np.ndarray]:
    """Return the positions that older files hold."""
    net = model.transformer
    table = sinusoids(net.context, net.hidden_size, halves=True)
    return {f"model.{side}.embed_positions.weight": table for side in ("encoder", "decoder")}


FAMILY = Family(
    {
        "MarianMTModel": Architecture(
            build,
            conversions,
            inputs,
            copies={
                "model.encoder.embed_tokens.weight": "model.shared.weight",
                "model.decoder.embed_tokens.weight": "model.shared.weight",
                "lm_head.weight": "model.shared.weight",
            },
            fixed=positions,
        ),
    }
)
