"""Encoder-decoders: Marian's Transformer and T5."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from genax.core.errors import GenaxError
from genax.interop.configuration import ACTIVATIONS, MOST_LAYERS, Fields
from genax.interop.conversion import Link, attention, dense, flat, norm
from genax.interop.outputs import IGNORED, LMOutput, label_loss
from genax.nn.sinusoids import sinusoids
from genax.transformer.encoder_decoder import EncoderDecoder
from genax.transformer.t5 import T5

Tokens = Int[Array, "b t"]

# Rows and columns of Marian's positions, a table that is computed.
MOST_SINUSOIDS = 1 << 14


class Seq2SeqLM(nn.Module):
    """An encoder-decoder under the inputs' Hugging Face names."""

    transformer: EncoderDecoder | T5
    start_token: int
    pad_token: int

    def __call__(
        self,
        input_ids: Int[Array, "b s"],
        attention_mask: Int[Array, "b s"] | None = None,
        decoder_input_ids: Tokens | None = None,
        decoder_attention_mask: Tokens | None = None,
        labels: Tokens | None = None,
        train: bool = False,
    ) -> LMOutput:
        """Logits of the token after each of the decoder's, by default the labels, shifted.

        Raises GenaxError where there are neither decoder_input_ids nor labels.
        """
        if decoder_input_ids is None:
            if labels is None:
                raise GenaxError("give decoder_input_ids, or labels that they follow from.")
            decoder_input_ids = self.shift(labels)
        mask = None if attention_mask is None else attention_mask > 0
        own = None if decoder_attention_mask is None else decoder_attention_mask > 0
        memory = self.transformer.encode(input_ids, mask, train)
        places = jnp.arange(decoder_input_ids.shape[1])[None]
        logits = self.transformer(
            decoder_input_ids, own, train, None, memory, mask, positions=places
        )
        return LMOutput(logits, label_loss(logits, labels), memory)

    def shift(self, labels: Tokens) -> Tokens:
        """The start token and all labels but the last; padding where labels are ignored."""
        shifted = jnp.pad(labels[:, :-1], ((0, 0), (1, 0)), constant_values=self.start_token)
        return jnp.where(shifted == IGNORED, self.pad_token, shifted)


class MarianMTModel(Seq2SeqLM):
    """Marian."""


class T5ForConditionalGeneration(Seq2SeqLM):
    """T5."""


def build_marian(architecture: str, fields: Fields, names: set[str]) -> nn.Module:
    """Marian, one vocabulary and as many heads on both sides."""
    heads, mlp_size = fields.need("encoder_attention_heads"), fields.need("encoder_ffn_dim")
    vocab_size = fields.need("vocab_size")
    fields.require(
        model_type="marian",
        decoder_attention_heads=heads,
        decoder_ffn_dim=mlp_size,
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
        num_hidden_layers=fields.layers("encoder_layers"),
    )
    fields.real("classif_dropout", 0.0)  # Of a head that is another architecture.
    if not fields.get("scale_embedding", False):
        raise GenaxError(f"{fields.source} has scale_embedding=False; True alone is supported.")
    return MarianMTModel(
        EncoderDecoder(
            vocab_size=vocab_size,
            context=fields.need("max_position_embeddings", most=MOST_SINUSOIDS),
            hidden_size=fields.need("d_model", most=MOST_SINUSOIDS),
            num_layers=fields.layers("decoder_layers"),
            num_heads=heads,
            mlp_size=mlp_size,
            dropout=fields.real("dropout", 0.1),
            num_encoder_layers=fields.layers("encoder_layers"),
            activation=fields.activation("activation_function", "gelu"),
            halves=True,
            logits_bias=True,
        ),
        start_token=fields.need("decoder_start_token_id", 0, vocab_size - 1),
        pad_token=fields.need("pad_token_id", 0, vocab_size - 1),
    )


def build_t5(architecture: str, fields: Fields, names: set[str]) -> nn.Module:
    """T5 and T5 1.1."""
    name = fields.get("feed_forward_proj", "relu")
    gated = name.startswith("gated-")
    activation = "gelu_new" if name == "gated-gelu" else name.removeprefix("gated-")
    fields.require(is_gated_act=gated, dense_act_fn=activation, is_encoder_decoder=True)
    fields.require(model_type="t5", is_decoder=False)
    if activation not in ACTIVATIONS:
        raise GenaxError(f"{fields.source} has feed_forward_proj={name!r}, which is not supported.")
    # T5 1.1 neither ties nor scales. Newer files say that it ties, whether or not it has a head.
    ties = fields.get("tie_word_embeddings", True)
    scale = fields.get("scale_decoder_outputs", ties)
    fields.get("n_positions")  # Positions are relative: there is no last one.
    layers, vocab_size = fields.layers("num_layers"), fields.need("vocab_size")
    pad = fields.size("pad_token_id", 0, 0, vocab_size - 1)
    buckets = fields.size("relative_attention_num_buckets", 32, least=4)
    return T5ForConditionalGeneration(
        T5(
            vocab_size=vocab_size,
            context=1 << 20,
            hidden_size=fields.need("d_model"),
            num_layers=fields.size("num_decoder_layers", layers, most=MOST_LAYERS),
            num_heads=fields.need("num_heads"),
            mlp_size=fields.need("d_ff"),
            dropout=fields.real("dropout_rate", 0.1),
            epsilon=fields.real("layer_norm_epsilon", 1e-6),
            tied_head=(ties and scale) or not any("head" in name for name in names),
            num_encoder_layers=layers,
            head_dim=fields.need("d_kv"),
            num_buckets=buckets,
            # Above the single distances, from which on buckets grow up to it.
            max_distance=fields.size("relative_attention_max_distance", 128, buckets // 2 + 1),
            activation=ACTIVATIONS[activation],
            gated=gated,
            scale_logits=scale,
        ),
        start_token=fields.size("decoder_start_token_id", pad, 0, vocab_size - 1),
        pad_token=pad,
    )


def marian_links(model: MarianMTModel) -> list[Link]:
    """Marian's."""
    found = [
        flat("transformer/token_embedding/embedding", "model.shared.weight"),
        flat("transformer/logits_bias", "final_logits_bias", (1, -1)),
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


def marian_positions(model: MarianMTModel) -> dict[str, np.ndarray]:
    """The positions that older files hold."""
    net = model.transformer
    table = sinusoids(net.context, net.hidden_size, halves=True)
    return {f"model.{side}.embed_positions.weight": table for side in ("encoder", "decoder")}


def t5_links(model: T5ForConditionalGeneration) -> list[Link]:
    """T5's."""
    t5 = model.transformer
    assert isinstance(t5, T5)
    found = [flat("transformer/token_embedding/embedding", "shared.weight")]
    stacks = (
        ("encoder", "encoder_blocks", t5.encoder_layers),
        ("decoder", "blocks", t5.num_layers),
    )
    for side, blocks, layers in stacks:
        first = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        last = "encoder_norm" if side == "encoder" else "final_norm"
        found.append(flat(f"transformer/{side}_distances/embedding", first))
        found += norm(f"transformer/{last}", f"{side}.final_layer_norm", bias=False)
        for number in range(layers):
            ours, theirs = f"transformer/{blocks}_{number}", f"{side}.block.{number}.layer"
            parts = [("attention", "SelfAttention")]
            if side == "decoder":
                parts.append(("cross_attention", "EncDecAttention"))
            for place, (path, name) in enumerate(parts):
                found += attention(
                    f"{ours}/{path}",
                    [f"{theirs}.{place}.{name}.{part}" for part in "qkvo"],
                    joint=path == "attention",
                    bias=False,
                )
                found += norm(f"{ours}/{path}_norm", f"{theirs}.{place}.layer_norm", bias=False)
            inside = f"{theirs}.{len(parts)}"
            names = {"expand": "wi", "output": "wo"}
            if t5.gated:
                names = {"gate": "wi_0", "expand": "wi_1", "output": "wo"}
            for path, name in names.items():
                found += dense(
                    f"{ours}/feed_forward/{path}", f"{inside}.DenseReluDense.{name}", bias=False
                )
            found += norm(f"{ours}/feed_forward_norm", f"{inside}.layer_norm", bias=False)
    if not t5.tied_head:
        found.append(flat("transformer/head/embedding", "lm_head.weight"))
    return found
